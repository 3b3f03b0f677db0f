r"""Texts as JSON strings, each in one spelling: raw UTF-8, with \" \\ \b \f \n \r \t where JSON asks for an escape.

The other control characters (\u0001) are written only where a pattern or a constant leaves no other character. As no
text has two spellings, a length, a pattern and a list of forbidden names can be intersected before or after spelling.
Source: RFC 8259, section 7.
"""

from __future__ import annotations

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
    concat,
    normalised,
    union,
)
from tokenizer_svc.grammar.schema_json import dumps
from tokenizer_svc.grammar.schema_texts import meet

_SHORT = {'"': '"', "\\": "\\", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
_PLAIN: Ranges = complement(normalised([(0, 0x1F), (ord('"'), ord('"')), (ord("\\"), ord("\\"))]))
_BACKSLASH: Ranges = ((ord("\\"), ord("\\")),)
_LETTERS = Chars(normalised([(ord(letter), ord(letter)) for letter in _SHORT.values()]))

QUOTE = Literal('"')
CHARACTER = Union((Chars(_PLAIN), Concat((Literal("\\"), _LETTERS))))
"""Any one character inside of a string."""


def quoted(content: Node) -> Node:
    return concat(QUOTE, content, QUOTE)


def escaped(node: Node) -> Node:
    """The texts of ``node`` as they stand between the quotes of a JSON string."""
    match node:
        case Literal(text):
            return Literal(dumps(text)[1:-1])
        case Chars(ranges):
            return _escaped_set(ranges)
        case Concat(parts):
            return Concat(tuple(map(escaped, parts)))
        case Union(options):
            return Union(tuple(map(escaped, options)))
        case Repeat(body, least, most):
            return Repeat(escaped(body), least, most)
        case Graph():
            return _escaped_graph(node)
        case Network(num_states, edges, accepting):
            return Network(num_states, tuple((a, escaped(over), b) for a, over, b in edges), accepting)
        case Label(body, index):
            return Label(escaped(body), index)


def _escaped_set(ranges: Ranges) -> Node:
    if ranges == EVERY:
        return CHARACTER
    plain = meet(ranges, _PLAIN)
    letters = _letters(ranges)
    options: list[Node] = [Chars(plain)] if plain else []
    if letters:
        options.append(Concat((Literal("\\"), Chars(letters))))
    if not options:
        options = [Literal(dumps(chr(char))[1:-1]) for low, high in ranges for char in range(low, high + 1)]
    return union(options)


def _letters(ranges: Ranges) -> Ranges:
    """What follows the backslash in the short escapes of a set."""
    found = [ord(letter) for char, letter in _SHORT.items() if any(low <= ord(char) <= high for low, high in ranges)]
    return normalised([(letter, letter) for letter in found])


def _escaped_graph(graph: Graph) -> Network | Graph:
    edges: list[tuple[int, Ranges, int]] = []
    behind: dict[tuple[int, Ranges], int] = {}  # states after a backslash, by where they lead
    spelt: list[tuple[int, Node, int]] = []
    for source, ranges, to in graph.edges:
        plain, letters = meet(ranges, _PLAIN), _letters(ranges)
        if plain:
            edges.append((source, plain, to))
        if letters:
            middle = behind.setdefault((to, letters), graph.num_states + len(behind))
            edges.append((source, _BACKSLASH, middle))
        if not plain and not letters:
            spelt.append((source, _escaped_set(ranges), to))
    edges += ((middle, letters, to) for (to, letters), middle in behind.items())
    num_states = graph.num_states + len(behind)
    if not spelt:
        return Graph(num_states, tuple(edges), graph.accepting)
    spelt += ((source, Chars(ranges), to) for source, ranges, to in edges)
    return Network(num_states, tuple(spelt), graph.accepting)
