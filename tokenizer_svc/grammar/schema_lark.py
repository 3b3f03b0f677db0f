"""Shapes as a grammar in llguidance's variant of Lark, for schemas that no automaton can hold.

The tokens of JSON are terminals: strings, numbers, names, brackets with the white space that belongs to them. Where one
begins with a whole other one (a number, an empty list), what follows the shorter one is never what makes the longer; so
it does no harm that the lexer prefers the longest. Everything else is rules.
Source: llguidance, docs/syntax.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.grammar import Whitespace
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.nodes import Chars, Literal, Node, Repeat, concat, union
from tokenizer_svc.grammar.schema_alive import alive
from tokenizer_svc.grammar.schema_diagram import Brackets, Diagram, list_diagram, record_diagram
from tokenizer_svc.grammar.schema_json import dumps
from tokenizer_svc.grammar.schema_layout import layout
from tokenizer_svc.grammar.schema_numbers import number_node, remainders
from tokenizer_svc.grammar.schema_phrases import phrase, quantifier
from tokenizer_svc.grammar.schema_read import Shapes
from tokenizer_svc.grammar.schema_regular import NotRegular, constants, number
from tokenizer_svc.grammar.schema_shapes import (
    ANYTHING,
    BOOLEAN,
    NULL,
    Anything,
    Choice,
    Constants,
    Lists,
    Never,
    Numbers,
    Others,
    Records,
    Reference,
    Shape,
    Strings,
    choice,
)
from tokenizer_svc.grammar.schema_strings import CHARACTER, escaped, quoted
from tokenizer_svc.grammar.schema_texts import Language

_LEVEL = 8  # how deep white space may indent, at any depth: rules do not know theirs
_MOST_RULES = 5000  # of one number
_MOST_OPTIONAL = 500  # properties of an object: llguidance follows at most 2,000 beginnings at once, and each has three

ANY_RECORD = Records((), (), Others(Strings(), ANYTHING))
_ANY_VALUE = choice([NULL, BOOLEAN, Numbers(), Strings(), Lists((), ANYTHING), ANY_RECORD])


def lark(shapes: Shapes, whitespace: Whitespace, limits: GrammarLimits) -> str:
    """The grammar; its rule is ``start``. Raises GrammarError where no value is finite, or a number is too hard."""
    return _Grammar(alive(shapes), whitespace, limits).text()


class _Grammar:
    def __init__(self, shapes: Shapes, whitespace: Whitespace, limits: GrammarLimits) -> None:
        self._shapes = shapes
        self._limits = limits
        self._rules: list[str] = []
        self._names: dict[int, str] = {}  # of the rules, by identity of the shape
        self._terminals: dict[str, str] = {}  # names, by definition
        spaces = layout(whitespace, _LEVEL)
        self._colon = self._terminal(spaces.colon)
        self._comma = self._terminal(spaces.comma)
        self._list = self._brackets("[", "]", spaces.after_open, spaces.before_close)
        self._record = self._brackets("{", "}", spaces.after_open, spaces.before_close)

    def text(self) -> str:
        root = self._rule(self._shapes.root)
        terminals = (f"{name}: {definition}" for definition, name in self._terminals.items())
        return "\n".join((f"start: {root}", *self._rules, *terminals, ""))

    def _brackets(self, opening: str, closing: str, after_open: Node, before_close: Node) -> Brackets[str]:
        begin = self._terminal(concat(Literal(opening), after_open))
        end = self._terminal(concat(before_close, Literal(closing)))
        empty = self._terminal(Literal(opening + closing))
        return Brackets(begin, end, empty, self._comma, "", self._repeat)

    def _repeat(self, item: str, least: int, most: int | None) -> str:
        return f"({self._comma} {item}){quantifier(least, most)}" if most != 0 else ""

    def _terminal(self, node: Node) -> str:
        return self._define(f"/{phrase(node)}/")

    def _define(self, definition: str) -> str:
        return self._terminals.setdefault(definition, f"T{len(self._terminals)}")

    def _rule(self, shape: Shape) -> str:
        """What stands for the shape in rules: a terminal's name or a rule's."""
        match shape:
            case Reference(key):
                return self._rule(self._shapes.table[key])
            case Anything():
                return self._rule(_ANY_VALUE)
            case Constants():
                return self._terminal(constants(shape))
            case Strings():
                return self._string(shape)
            case Numbers() if remainders(shape) is None:
                return self._terminal(number_node(shape))
            case _:
                pass
        name = self._names.get(id(shape))
        if name is None:
            name = self._names[id(shape)] = f"r{len(self._names)}"
            self._write(name, shape)
        return name

    def _write(self, name: str, shape: Shape) -> None:
        match shape:
            case Choice(options):
                self._rules.append(f"{name}: {' | '.join(self._rule(option) for option in options)}")
            case Lists():
                rest = None if isinstance(shape.rest, Never) else self._rule(shape.rest)
                self._diagram(name, list_diagram(shape, self._list, [self._rule(item) for item in shape.prefix], rest))
            case Records():
                self._diagram(name, self._members(shape))
            case Numbers():
                self._multiples(name, shape)
            case _:
                raise AssertionError("written in place")

    def _members(self, shape: Records) -> Diagram[str]:
        if sum(not member.required for member in shape.members) > _MOST_OPTIONAL:
            raise GrammarError(f"an object of the JSON Schema has more than {_MOST_OPTIONAL} optional properties")
        members = [
            f"{self._terminal(Literal(dumps(member.name)))} {self._colon} {self._rule(member.shape)}"
            for member in shape.members
        ]
        others = [
            f"{self._rule(other.names)} {self._colon} {self._rule(other.shape)}"
            for other in (*shape.patterns, shape.extra)
            if not isinstance(other.shape, Never)
        ]
        return record_diagram(shape, self._record, members, f"({' | '.join(others)})" if others else None)

    def _string(self, shape: Strings) -> str:
        """What fulfils all constraints, each written as JSON by itself: no text has two spellings."""
        terms = [quoted(escaped(language.node)) for language in (*shape.languages, *shape.formats)]
        if not terms or shape.least or shape.most is not None:
            terms.append(quoted(Repeat(CHARACTER, shape.least, shape.most)))
        definition = " & ".join(f"/{phrase(term)}/" for term in terms)
        if shape.excluded:
            definition += f" & ~/{phrase(union([Literal(dumps(text)) for text in shape.excluded]))}/"
        return self._define(definition)

    def _multiples(self, name: str, shape: Numbers) -> None:
        """Remainders cannot be written as an expression of any reasonable size, but as a rule per state."""
        try:
            language = Language(number(shape, self._limits), self._limits)
            rows, accepting = language.rows, language.accepting
        except NotRegular as error:
            raise GrammarError("multipleOf is not supported here: it is too large beside its bounds") from error
        if len(rows) > _MOST_RULES:
            raise GrammarError("multipleOf is not supported here: it is too large beside its bounds")
        for state, row in enumerate(rows):
            options = [f"{self._terminal(Chars(ranges))} {name}_{to}" for ranges, to in row]
            options += ['""'] if accepting[state] else []
            self._rules.append(f"{name}_{state}: {' | '.join(options)}")
        self._rules.append(f"{name}: {name}_0")

    def _diagram(self, name: str, diagram: Diagram[str]) -> None:
        """A rule per state, but for those that only pass on to the next."""
        leaving: dict[int, list[tuple[str, int]]] = {}
        entered: dict[int, int] = {}
        for source, piece, to in diagram.edges:
            leaving.setdefault(source, []).append((piece, to))
            entered[to] = entered.get(to, 0) + 1
        own = [state for state in leaving if state and (len(leaving[state]) > 1 or entered[state] > 1)]
        rules = {0: name} | {state: f"{name}_{state}" for state in own}

        def track(piece: str, state: int) -> str:
            pieces = [piece]
            while state != 1 and state not in rules:
                ((piece, state),) = leaving[state]
                pieces.append(piece)
            pieces.append(rules.get(state, ""))
            return " ".join(filter(None, pieces)) or '""'

        for state, rule in rules.items():
            self._rules.append(f"{rule}: {_alternatives([track(piece, to) for piece, to in leaving[state]])}")


def _alternatives(tracks: Sequence[str]) -> str:
    return " | ".join(dict.fromkeys(tracks))
