"""Where ``^`` and ``$`` mean something, and what is left of a pattern once they are gone.

An automaton sees whole texts, so an anchor at an edge of the pattern is either redundant (full match) or says that
nothing may come before or after (search). Anywhere else it is refused: it could only be matched by nothing, or by
an empty part next to it. Knows nothing of how patterns are spelt.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizer_svc.grammar.errors import at
from tokenizer_svc.grammar.nodes import EMPTY, EVERY, Chars, Literal, Node, Repeat, concat, union

ANYTHING = Repeat(Chars(EVERY), 0, None)


class Side(enum.Enum):
    """Of the text."""

    START = "^"
    END = "$"


@dataclass(frozen=True, slots=True)
class Anchor:
    """The start or the end of the text, asked for at a character of the pattern."""

    side: Side
    position: int


@dataclass(frozen=True, slots=True)
class Group:
    """Alternatives, some of which have an anchor in them."""

    options: Sequence[Sequence[Item]]


Item = Node | Anchor | Group


class Edge(enum.Enum):
    """What lies at one side of a part of the pattern."""

    INSIDE = enum.auto()  # other parts: no anchor can stand here
    CLOSED = enum.auto()  # the edge of the text
    OPEN = enum.auto()  # the edge of the match, before or after which any text may come


def group(options: Sequence[Sequence[Item]]) -> Node | Group:
    """Alternatives as a tree if no anchor is among them."""
    nodes: list[Node] = []
    for items in options:
        parts = [item for item in items if not isinstance(item, Anchor | Group)]
        if len(parts) < len(items):
            return Group(options)
        nodes.append(sequence(parts))
    return union(nodes)


def sequence(parts: Sequence[Node]) -> Node:
    """The parts one after the other, neighbouring literals joined."""
    joined: list[Node] = []
    texts: list[str] = []
    for part in parts:
        if isinstance(part, Literal):
            texts.append(part.text)
            continue
        if texts:
            joined.append(Literal("".join(texts)))
            texts = []
        joined.append(part)
    if texts:
        joined.append(Literal("".join(texts)))
    return concat(*joined) if joined else EMPTY


def repeated(item: Group, least: int, most: int | None) -> Node | Group:
    """A repetition of something with an anchor in it. Raises GrammarError unless it is at most one time."""
    if most == 0:
        return EMPTY
    if most == 1:
        return item if least else Group((*item.options, ()))
    anchor = first_anchor(item)
    raise at(anchor.position, f"{anchor.side.value} cannot be repeated; take it out of the repetition")


def first_anchor(item: Group) -> Anchor:
    for items in item.options:
        for part in items:
            if isinstance(part, Anchor):
                return part
            if isinstance(part, Group):
                return first_anchor(part)
    raise AssertionError("a group without an anchor is a tree")


def resolve(options: Sequence[Sequence[Item]], left: Edge, right: Edge) -> Node:
    """The language of these alternatives between two edges. Raises GrammarError for an anchor anywhere else."""
    return union([_resolve(list(items), left, right) for items in options])


def _resolve(items: list[Item], left: Edge, right: Edge) -> Node:
    while items and _is_anchor(items[0], Side.START) and left is not Edge.INSIDE:
        del items[0]
        left = Edge.CLOSED
    while items and _is_anchor(items[-1], Side.END) and right is not Edge.INSIDE:
        del items[-1]
        right = Edge.CLOSED
    if not items:
        return ANYTHING if Edge.OPEN in (left, right) else EMPTY
    parts: list[Node] = []
    if left is Edge.OPEN and not isinstance(items[0], Group):
        parts.append(ANYTHING)
    last = len(items) - 1
    for index, item in enumerate(items):
        match item:
            case Anchor(side, position):
                edge = "start" if side is Side.START else "end"
                raise at(position, f"{side.value} is supported only at the {edge} of the pattern or of an alternative")
            case Group(options):
                beside = left if index == 0 else Edge.INSIDE
                parts.append(resolve(options, beside, right if index == last else Edge.INSIDE))
            case _:
                parts.append(item)
    if right is Edge.OPEN and not isinstance(items[-1], Group):
        parts.append(ANYTHING)
    return sequence(parts)


def _is_anchor(item: Item, side: Side) -> bool:
    return isinstance(item, Anchor) and item.side is side
