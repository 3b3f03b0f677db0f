"""Which recorded parts go into which call. Pure: values in, values out; it starts nothing.

As few calls as possible: all that a branch has recorded up to its last generation is one call, text that stands next to
text is one part, and a context that only its one child needs is said in the child's call.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rootstream.lang.node import Node, Stage
from rootstream.lang.parts import Gen, Part, Select, Text


class Cut(NamedTuple):
    """What is said now, and what may wait until something is generated after it."""

    now: tuple[Part, ...]
    later: tuple[Part, ...]


class Way(NamedTuple):
    """Whom a call goes on from, and what it has to say before its own parts."""

    parent: Node | None
    before: tuple[Part, ...]


def generates(part: Part) -> bool:
    return isinstance(part, Gen | Select)


def cut(parts: Sequence[Part]) -> Cut:
    """Behind the last generation."""
    for end in range(len(parts), 0, -1):
        if generates(parts[end - 1]):
            return Cut(tuple(parts[:end]), tuple(parts[end:]))
    return Cut((), tuple(parts))


def merged(parts: Iterable[Part]) -> tuple[Part, ...]:
    """The same with neighbouring texts joined."""
    joined: list[Part] = []
    texts: list[str] = []
    for part in parts:
        if isinstance(part, Text):
            texts.append(part.text)
            continue
        if texts:
            joined.append(Text("".join(texts)))
            texts.clear()
        joined.append(part)
    if texts:
        joined.append(Text("".join(texts)))
    return tuple(joined)


def folds(node: Node) -> bool:
    """Whether its one user can say it, so that it needs no call of its own."""
    return node.stage is Stage.PLANNED and node.users <= 1 and not node.slots


def blocker(node: Node | None) -> Node | None:
    """Who has to be known before one can go on from ``node``; a failed one blocks for ever."""
    while node is not None and folds(node):
        node = node.parent
    return None if node is None or node.stage is Stage.DONE else node


def way(node: Node | None) -> Way:
    """How to go on from ``node``, behind which nothing blocks.

    Where the server does not have it any more, everything from the root is said again.
    """
    before: tuple[Part, ...] = ()
    while node is not None and node.stage is Stage.PLANNED:
        before = node.parts + before
        node = node.parent
    if node is None or (node.kept and not node.released):
        return Way(node, before)
    return Way(None, node.history() + before)
