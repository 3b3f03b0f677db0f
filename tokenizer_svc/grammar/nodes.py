"""Regular expressions as trees, over code points: what patterns, choices, schemas and templates become.

Pure data. dfa.py turns a tree into an automaton over UTF-8 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Ranges = tuple[tuple[int, int], ...]
"""Sorted, disjoint, non-adjacent, inclusive ranges of code points, without the surrogates U+D800 to U+DFFF."""

MAX_CODE_POINT = 0x10FFFF


@dataclass(frozen=True, slots=True)
class Literal:
    """One text; the empty one matches the empty string."""

    text: str


@dataclass(frozen=True, slots=True)
class Chars:
    """One code point out of a set; the empty set matches nothing at all."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Concat:
    """All parts, one after the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Union:
    """Any one of the options; without options it matches nothing at all."""

    options: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """``least`` to ``most`` times the body, any number of times more where ``most`` is None."""

    body: Node
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Graph:
    """An automaton over code points given by hand: state 0 is its start. It may be nondeterministic."""

    num_states: int
    edges: tuple[tuple[int, Ranges, int], ...]  # from, over, to
    accepting: frozenset[int]


@dataclass(frozen=True, slots=True)
class Network:
    """An automaton whose edges are nodes: state 0 is its start. It may be nondeterministic.

    It says in linear size what a tree of Concat and Union would say in quadratic size, such as a list of optional parts
    with commas between those that are there.
    """

    num_states: int
    edges: tuple[tuple[int, Node, int], ...]  # from, over, to
    accepting: frozenset[int]


@dataclass(frozen=True, slots=True)
class Label:
    """The body, its states labelled as generated segment ``index`` of a template."""

    body: Node
    index: int


Node = Literal | Chars | Concat | Union | Repeat | Graph | Network | Label

EMPTY = Literal("")


def concat(*parts: Node) -> Node:
    """A Concat without needless nesting."""
    return parts[0] if len(parts) == 1 else Concat(tuple(parts))


def union(options: Sequence[Node]) -> Node:
    """A Union without needless nesting."""
    return options[0] if len(options) == 1 else Union(tuple(options))


def optional(body: Node) -> Node:
    return Repeat(body, 0, 1)


def normalised(ranges: Sequence[tuple[int, int]]) -> Ranges:
    """Any inclusive ranges, sorted, merged, and cut free of the surrogates."""
    cut: list[tuple[int, int]] = []
    for low, high in ranges:
        if low < 0xD800:
            cut.append((low, min(high, 0xD7FF)))
        if high > 0xDFFF:
            cut.append((max(low, 0xE000), high))
    merged: list[tuple[int, int]] = []
    for low, high in sorted(cut):
        if low > high:
            continue
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return tuple(merged)


def complement(ranges: Ranges) -> Ranges:
    """Every other code point."""
    gaps: list[tuple[int, int]] = []
    start = 0
    for low, high in ranges:
        gaps.append((start, low - 1))
        start = high + 1
    gaps.append((start, MAX_CODE_POINT))
    return normalised(gaps)


EVERY = complement(())
"""All code points."""
