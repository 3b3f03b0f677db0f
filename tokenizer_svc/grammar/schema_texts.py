"""Languages of decoded texts: whether a text is in one, what is in several at once, whether anything is.

Works on automata over code points. Knows nothing of how JSON spells a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.minimise import minimise
from tokenizer_svc.grammar.nfa import build
from tokenizer_svc.grammar.nodes import (
    EVERY,
    Chars,
    Concat,
    Graph,
    Label,
    Literal,
    Network,
    Node,
    Ranges,
    Repeat,
    Union,
    complement,
    normalised,
)
from tokenizer_svc.grammar.subset import Automaton, determinise

_FREE = -1  # of a list of texts: the text is none of them, whatever follows

Row = list[tuple[Ranges, int]]


class TooLarge(Exception):
    """An intersection has too many states."""


class Language:
    """A set of texts: as a tree and, made on first use, as a deterministic automaton."""

    def __init__(self, node: Node, limits: GrammarLimits) -> None:
        self.node = node
        self._limits = limits

    @cached_property
    def rows(self) -> list[Row]:
        """The moves of each state, over disjoint ranges; state 0 is the start."""
        alphabet = self._automaton.alphabet
        return [[(tuple(alphabet.ranges(mask)), to) for mask, to in moves] for moves in self._automaton.moves]

    @property
    def accepting(self) -> list[bool]:
        return self._automaton.accepting

    @property
    def is_empty(self) -> bool:
        """Whether there is no text in it."""
        return is_nothing(self.node)

    def has(self, text: str) -> bool:
        """Whether ``text`` is one of them. Raises GrammarError when the automaton is too large."""
        state: int | None = 0
        for char in text:
            state = _move(self.rows[state], ord(char))
            if state is None:
                return False
        return self.accepting[state]

    @cached_property
    def _made(self) -> Automaton | GrammarError:
        try:
            return minimise(determinise(build(self.node, self._limits), self._limits, labelled=False))
        except GrammarError as error:  # remembered, because it takes as long as success
            return error

    @property
    def _automaton(self) -> Automaton:
        if isinstance(self._made, GrammarError):
            raise self._made
        return self._made


def is_nothing(node: Node) -> bool:
    """Whether no text at all matches a tree; graphs are expected to match something."""
    match node:
        case Chars(ranges):
            return not ranges
        case Concat(parts):
            return any(map(is_nothing, parts))
        case Union(options):
            return all(map(is_nothing, options))
        case Repeat(body, least, _):
            return least > 0 and is_nothing(body)
        case Label(body, _):
            return is_nothing(body)
        case Literal() | Graph() | Network():
            return False


class Constraints(NamedTuple):
    """Texts of a length in code points that are in every language and are none of the excluded ones."""

    least: int
    most: int | None
    languages: Sequence[Language]
    excluded: Sequence[str] = ()


def admits(constraints: Constraints, text: str) -> bool:
    least, most, languages, excluded = constraints
    if len(text) < least or (most is not None and len(text) > most) or text in excluded:
        return False
    return all(language.has(text) for language in languages)


def is_possible(constraints: Constraints, limits: GrammarLimits) -> bool:
    """Whether any text fulfils the constraints; true as well where that would take too long to find out."""
    least, most, languages, excluded = constraints
    if not excluded and len(languages) + (least > 0 or most is not None) <= 1:
        return not any(language.is_empty for language in languages) and (most is None or least <= most)
    product = _Product(constraints, limits)
    try:
        return any(product.accepts(state) for state in product.states())
    except (TooLarge, GrammarError):
        return True


def graph(constraints: Constraints, limits: GrammarLimits) -> Graph:
    """The texts that fulfil all the constraints. Raises TooLarge, or GrammarError where there is none."""
    product = _Product(constraints, limits)
    numbers: dict[_State, int] = {}
    edges: list[tuple[int, Ranges, int]] = []
    for state in product.states():
        source = numbers.setdefault(state, len(numbers))
        edges += ((source, ranges, numbers.setdefault(to, len(numbers))) for ranges, to in product.moves(state))
    return Graph(len(numbers), tuple(edges), frozenset(n for state, n in numbers.items() if product.accepts(state)))


_State = tuple[int, ...]  # of each language, of the excluded texts, the length so far


class _Product:
    """All constraints side by side, as one deterministic automaton that is made as it is walked."""

    def __init__(self, constraints: Constraints, limits: GrammarLimits) -> None:
        self._least, self._most, languages, excluded = constraints
        self._languages = [language for language in languages if not language.is_empty]
        self._impossible = len(self._languages) < len(languages)
        self._excluded = Language(Union(tuple(map(Literal, excluded))), limits) if excluded else None
        self._limit = limits.dfa_states // max(1, len(languages))

    def states(self) -> Iterator[_State]:
        """Every state that can be reached, the start first."""
        start: _State = (*(0 for _ in self._languages), 0 if self._excluded else _FREE, 0)
        seen: dict[_State, None] = {start: None}
        pending: list[_State] = [start]
        for state in pending:  # grows while it is read
            yield state
            for _, to in self.moves(state):
                if to not in seen:
                    if len(seen) >= self._limit:
                        raise TooLarge
                    seen[to] = None
                    pending.append(to)

    def accepts(self, state: _State) -> bool:
        *states, named, length = state
        if self._impossible or length < self._least:
            return False
        if self._excluded is not None and named != _FREE and self._excluded.accepting[named]:
            return False
        return all(language.accepting[s] for language, s in zip(self._languages, states, strict=True))

    def moves(self, state: _State) -> list[tuple[Ranges, _State]]:
        *states, named, length = state
        if length == self._most:
            return []
        length = min(length + 1, self._least) if self._most is None else length + 1
        found: list[tuple[Ranges, _State]] = [(EVERY, ())]
        for language, s in zip(self._languages, states, strict=True):
            found = _meet(found, language.rows[s])
        return [(ranges, (*to, length)) for ranges, to in _meet(found, self._names(named))]

    def _names(self, state: int) -> Row:
        """Along the excluded texts, or off them."""
        if self._excluded is None or state == _FREE:
            return [(EVERY, _FREE)]
        row = self._excluded.rows[state]
        return [*row, (complement(normalised([span for ranges, _ in row for span in ranges])), _FREE)]


def meet(left: Ranges, right: Ranges) -> Ranges:
    """What is in both."""
    found: list[tuple[int, int]] = []
    for low, high in left:
        found += ((max(low, a), min(high, b)) for a, b in right if a <= high and b >= low)
    return tuple(found)


def _meet(states: list[tuple[Ranges, _State]], row: Row) -> list[tuple[Ranges, _State]]:
    pairs = ((meet(ranges, other), (*state, to)) for ranges, state in states for other, to in row)
    return [(ranges, state) for ranges, state in pairs if ranges]


def _move(row: Row, char: int) -> int | None:
    return next((to for ranges, to in row if any(low <= char <= high for low, high in ranges)), None)
