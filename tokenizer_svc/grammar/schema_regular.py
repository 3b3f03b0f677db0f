"""Shapes as trees for an automaton. What none can hold is not regular: a shape that contains itself, any JSON."""

from __future__ import annotations

from shared.grammar import Whitespace
from tokenizer_svc.grammar import schema_texts as texts
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.nodes import (
    EMPTY,
    Chars,
    Concat,
    Literal,
    Network,
    Node,
    Repeat,
    concat,
    union,
)
from tokenizer_svc.grammar.schema_diagram import Brackets, Diagram, list_diagram, record_diagram
from tokenizer_svc.grammar.schema_json import dumps
from tokenizer_svc.grammar.schema_layout import Layout, layout
from tokenizer_svc.grammar.schema_numbers import number_node, remainders
from tokenizer_svc.grammar.schema_shapes import (
    Anything,
    Choice,
    Constants,
    Lists,
    Never,
    Numbers,
    Records,
    Reference,
    Shape,
    Strings,
)
from tokenizer_svc.grammar.schema_strings import CHARACTER, escaped, quoted
from tokenizer_svc.grammar.schema_texts import Constraints, Language, TooLarge

_NOTHING_MATCHES = Chars(())
_MOST_OPTIONAL = 200  # properties of an object: what may follow each is a list of its own (0.3 s)


class NotRegular(GrammarError):
    """No automaton can hold the schema; llguidance may."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no automaton can hold this JSON Schema: {reason}")


def number(shape: Numbers, limits: GrammarLimits) -> Node:
    """Raises NotRegular where the automaton would be too large."""
    node, multiples = number_node(shape), remainders(shape)
    if multiples is None:
        return node
    return _intersection(Constraints(0, None, (Language(node, limits), Language(multiples, limits))), limits)


def string(shape: Strings, limits: GrammarLimits) -> Node:
    """With the quotes. Raises NotRegular where the automaton would be too large."""
    least, most, excluded = shape.least, shape.most, shape.excluded
    languages = (*shape.languages, *shape.formats)
    bounded = least > 0 or most is not None
    if not languages and not excluded:
        return quoted(Repeat(CHARACTER, least, most))
    if len(languages) == 1 and not bounded and not excluded:
        return quoted(escaped(languages[0].node))
    return quoted(escaped(_intersection(Constraints(least, most, languages, excluded), limits)))


def constants(shape: Constants) -> Node:
    return union([Literal(dumps(value)) for value in shape.values])


def _intersection(constraints: Constraints, limits: GrammarLimits) -> Node:
    try:
        return texts.graph(constraints, limits)
    except (TooLarge, GrammarError) as error:
        raise NotRegular("an intersection is too large") from error


class Regular:
    """Makes trees of shapes; the same shape at the same level has one tree."""

    def __init__(self, whitespace: Whitespace, limits: GrammarLimits) -> None:
        self._whitespace = whitespace
        self._limits = limits
        self._known: dict[tuple[int, int], Node] = {}
        self._shapes: list[Shape] = []  # kept alive, so that identities stay theirs

    def node(self, shape: Shape, level: int = 1) -> Node:
        """The values of ``shape`` as JSON; ``level`` is that of a container here. Raises NotRegular."""
        key = (id(shape), level if self._whitespace is Whitespace.FLEXIBLE else 0)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._node(shape, level)
            self._shapes.append(shape)
        return found

    def _node(self, shape: Shape, level: int) -> Node:
        match shape:
            case Never():
                return _NOTHING_MATCHES
            case Anything():
                raise NotRegular("it allows any JSON value somewhere")
            case Reference():
                raise NotRegular("it refers to itself")
            case Constants():
                return constants(shape)
            case Numbers():
                return number(shape, self._limits)
            case Strings():
                return string(shape, self._limits)
            case Choice(options):
                return union([self.node(option, level) for option in options])
            case Lists():
                return self._list(shape, level)
            case Records():
                return self._record(shape, level)

    def _list(self, shape: Lists, level: int) -> Node:
        prefix = [self.node(item, level + 1) for item in shape.prefix]
        rest = None if isinstance(shape.rest, Never) else self.node(shape.rest, level + 1)
        spaces = layout(self._whitespace, level)
        return _network(list_diagram(shape, _brackets("[", "]", spaces), prefix, rest))

    def _record(self, shape: Records, level: int) -> Node:
        if sum(not member.required for member in shape.members) > _MOST_OPTIONAL:
            raise NotRegular(f"an object has more than {_MOST_OPTIONAL} optional properties")
        spaces = layout(self._whitespace, level)
        members = [
            concat(Literal(dumps(member.name)), spaces.colon, self.node(member.shape, level + 1))
            for member in shape.members
        ]
        others = [
            concat(self.node(other.names), spaces.colon, self.node(other.shape, level + 1))
            for other in (*shape.patterns, shape.extra)
            if not isinstance(other.shape, Never)
        ]
        brackets = _brackets("{", "}", spaces)
        return _network(record_diagram(shape, brackets, members, union(others) if others else None))


def _brackets(opening: str, closing: str, spaces: Layout) -> Brackets[Node]:
    def repeat(item: Node, least: int, most: int | None) -> Node:
        return Repeat(Concat((spaces.comma, item)), least, most)

    begin, end = concat(Literal(opening), spaces.after_open), concat(spaces.before_close, Literal(closing))
    return Brackets(begin, end, Literal(opening + closing), spaces.comma, EMPTY, repeat)


def _network(diagram: Diagram[Node]) -> Network:
    return Network(diagram.num_states, tuple(diagram.edges), frozenset((1,)))
