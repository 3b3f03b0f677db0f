"""The subset construction: from a nondeterministic automaton over code points to a deterministic one.

A state is a set of positions; its moves are computed once per different set of characters that leave it, never per
character. Texts without a choice (most of JSON's) take a short cut per position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tokenizer_svc.grammar.alphabet import Alphabet
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.nfa import UNLABELLED, Nfa
from tokenizer_svc.grammar.nodes import EVERY

Moves = list[tuple[int, int]]
"""(letters, to), the letters disjoint; what is in none of them is refused."""


class Automaton(NamedTuple):
    """A deterministic automaton over letters. State 0 is the start, every state can accept."""

    alphabet: Alphabet
    moves: list[Moves]
    accepting: list[bool]
    labels: list[int]
    distances: list[int]  # the least number of code points to acceptance


def too_many(limits: GrammarLimits) -> GrammarError:
    return GrammarError(
        f"this needs more than {limits.dfa_states} states once it is deterministic (dfa_states); lower the bounds of "
        "repetitions, and let what is repeated differ from what may follow it"
    )


def _too_much(limits: GrammarLimits) -> GrammarError:
    return GrammarError(
        f"this takes more than {limits.nfa_moves} moves to make deterministic (nfa_moves), because too many of its "
        "parts may stand at one place; lower the bounds of repetitions, and have fewer parts that may be left out"
    )


def determinise(nfa: Nfa, limits: GrammarLimits, *, labelled: bool) -> Automaton:
    """Raises GrammarError when there are more states than allowed."""
    subsets = _Subsets(nfa, limits)
    if not labelled:
        subsets.note_universal()
    alphabet = Alphabet(nfa.sets)
    partition = _Partition(alphabet.masks, subsets.count)
    masks, edges = alphabet.masks, nfa.edges
    moves: list[Moves] = []
    subsets.enter(nfa.start)
    for positions in subsets.members:  # grows while it is read
        leaving = edges[positions[0]] if len(positions) == 1 else [e for state in positions for e in edges[state]]
        if len(leaving) == 1:
            moves.append([(masks[leaving[0][0]], subsets.enter(leaving[0][1]))])
            continue
        subsets.count(len(leaving))
        by_set: dict[int, list[int]] = {}
        for index, to in leaving:
            by_set.setdefault(index, []).append(to)
        row: Moves = []
        targets = list(by_set.values())
        for mask, owners in partition.of(tuple(by_set)):
            joined = targets[owners[0]] if len(owners) == 1 else [to for owner in owners for to in targets[owner]]
            row.append((mask, subsets.enter(joined[0]) if len(joined) == 1 else subsets.enter_all(joined)))
        moves.append(row)
    members = subsets.members
    accepting = [nfa.final in positions for positions in members]
    distances = [min(nfa.distances[state] for state in positions) for positions in members]
    labels = [_label(nfa, positions) for positions in members] if labelled else [UNLABELLED] * len(members)
    return Automaton(alphabet, moves, accepting, labels, distances)


def _label(nfa: Nfa, positions: Sequence[int]) -> int:
    """The first segment that one of the positions is inside of."""
    found = [nfa.labels[state] for state in positions if nfa.edges[state] and nfa.labels[state] != UNLABELLED]
    return min(found, default=UNLABELLED)


class _Subsets:
    """Sets of positions that were met, numbered."""

    def __init__(self, nfa: Nfa, limits: GrammarLimits) -> None:
        self.members: list[tuple[int, ...]] = []
        self._nfa = nfa
        self._limits = limits
        self._numbers: dict[tuple[int, ...], int] = {}
        self._alone: dict[int, int] = {}  # number of the subset of one position and what it slides to
        self._together: dict[tuple[int, ...], int] = {}
        self._closures: dict[int, tuple[int, ...]] = {}
        self._left = limits.nfa_moves
        self._universal: set[int] = set()  # positions after which any text at all is accepted

    def note_universal(self) -> None:
        """From here on, no other position counts beside one from which everything is accepted.

        So what a search has found is not searched again: ``.*word.*`` would have twice the states otherwise.
        """
        nfa = self._nfa
        if EVERY not in nfa.sets:
            return
        every = nfa.sets.index(EVERY)
        for state, edges in enumerate(nfa.edges):
            if nfa.distances[state] == 0 and any(over == every and state in self._closure(to) for over, to in edges):
                self._universal.add(state)

    def count(self, moves: int) -> None:
        """Raises GrammarError when more moves were looked at than allowed."""
        self._left -= moves
        if self._left < 0:
            raise _too_much(self._limits)

    def enter(self, state: int) -> int:
        found = self._alone.get(state)
        if found is None:
            found = self._alone[state] = self._number(self._closure(state))
        return found

    def enter_all(self, states: list[int]) -> int:
        key = tuple(states)
        found = self._together.get(key)
        if found is None:
            union: set[int] = set()
            for state in states:
                closure = self._closure(state)
                self.count(len(closure))
                union.update(closure)
            found = self._together[key] = self._number(tuple(sorted(union)))
        return found

    def _number(self, positions: tuple[int, ...]) -> int:
        if self._universal and (found := self._universal.intersection(positions)):
            positions = self._closure(min(found))
        number = self._numbers.setdefault(positions, len(self.members))
        if number == len(self.members):
            if number >= self._limits.dfa_states:
                raise too_many(self._limits)
            self.members.append(positions)
        return number

    def _closure(self, state: int) -> tuple[int, ...]:
        """Where reading goes on from ``state``: the positions with edges, and the final one."""
        nfa = self._nfa
        if state not in nfa.empty:
            return (state,)
        found = self._closures.get(state)
        if found is None:
            seen = {state}
            pending = [state]
            for reached in pending:  # grows while it is read
                for to in nfa.empty.get(reached, ()):
                    if to not in seen:
                        seen.add(to)
                        pending.append(to)
            self.count(len(pending))
            found = tuple(sorted(s for s in seen if nfa.edges[s] or s == nfa.final))
            self._closures[state] = found
        return found


class _Partition:
    """Sets of characters split into disjoint ones, remembered."""

    def __init__(self, masks: list[int], count: Callable[[int], None]) -> None:
        self._masks = masks
        self._count = count
        self._known: dict[tuple[int, ...], list[tuple[int, tuple[int, ...]]]] = {}

    def of(self, sets: tuple[int, ...]) -> list[tuple[int, tuple[int, ...]]]:
        """(letters, which of the sets they are in, by place), for all that is in any of them."""
        found = self._known.get(sets)
        if found is None:
            found = self._known[sets] = self._split([self._masks[index] for index in sets])
        return found

    def _split(self, masks: list[int]) -> list[tuple[int, tuple[int, ...]]]:
        """Wide sets against each other first, then the many of one letter each, by letter."""
        parts: list[tuple[int, tuple[int, ...]]] = []
        letters: dict[int, tuple[int, ...]] = {}
        for place, mask in enumerate(masks):
            if mask & (mask - 1):
                parts = _against(parts, mask, place)
                self._count(sum(len(owners) for _, owners in parts))
            else:
                letters[mask] = (*letters.get(mask, ()), place)
        for letter, places in letters.items():
            self._count(len(parts))
            for index, (part, owners) in enumerate(parts):
                if part & letter:
                    parts[index] = (part ^ letter, owners)
                    letters[letter] = (*owners, *places)
                    break
        return [part for part in parts if part[0]] + list(letters.items())


def _against(parts: list[tuple[int, tuple[int, ...]]], mask: int, place: int) -> list[tuple[int, tuple[int, ...]]]:
    split: list[tuple[int, tuple[int, ...]]] = []
    for part, owners in parts:
        if shared := part & mask:
            split.append((shared, (*owners, place)))
        if only := part & ~mask:
            split.append((only, owners))
        mask &= ~part
    if mask:
        split.append((mask, (place,)))
    return split
