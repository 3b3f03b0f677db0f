"""White space between the tokens of JSON, by policy, as trees. Bounded everywhere.

``flexible`` allows what usual printers make: nothing, one space, or a line break and an indentation of up to four
spaces or one tab per level.
"""

from __future__ import annotations

from typing import NamedTuple

from shared.grammar import Whitespace
from tokenizer_svc.grammar.nodes import EMPTY, Chars, Literal, Node, Repeat, concat, optional, union

_SPACE = Chars(((0x20, 0x20),))
_TAB = Chars(((0x09, 0x09),))
_SPACES_PER_LEVEL = 4


class Layout(NamedTuple):
    """What is written around the items of a container at some level; the outermost one is at level 1."""

    comma: Node
    colon: Node
    after_open: Node
    before_close: Node


def layout(whitespace: Whitespace, level: int) -> Layout:
    match whitespace:
        case Whitespace.COMPACT:
            return Layout(Literal(","), Literal(":"), EMPTY, EMPTY)
        case Whitespace.SPACED:
            return Layout(Literal(", "), Literal(": "), EMPTY, EMPTY)
        case Whitespace.FLEXIBLE:
            inside = _break(level)
            colon = concat(Literal(":"), optional(_SPACE))
            return Layout(concat(Literal(","), inside), colon, inside, _break(level - 1))


def _break(level: int) -> Node:
    indentation = union([Repeat(_SPACE, 0, _SPACES_PER_LEVEL * level), Repeat(_TAB, 0, level)])
    return optional(union([_SPACE, concat(Literal("\n"), indentation)]))
