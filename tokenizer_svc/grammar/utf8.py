"""UTF-8 as automata: which bytes lead from a state, through states inside of a code point, to the next state.

Well-formed UTF-8 only (Unicode 15, table 3-7): no overlong forms, no surrogates, nothing above U+10FFFF. Equal inner
states are made once. Knows nothing of the states it connects but their numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

Span = tuple[int, int, int]
"""(low, high, to), inclusive."""

_LEADS = (
    (0xC0, 2, 0x80, 0x7FF),
    (0xE0, 3, 0x800, 0xFFFF),
    (0xF0, 4, 0x10000, 0x10FFFF),
)  # first byte, bytes, code points


class Shape(NamedTuple):
    """How some disjoint sets of code points above ASCII are spelt, wherever they lead.

    Targets are ``~i`` for set i, or the index of an inner node; nodes only point to earlier ones.
    """

    nodes: list[tuple[Span, ...]]
    leads: list[Span]


def shape(sets: Sequence[Iterable[tuple[int, int]]]) -> Shape:
    """``sets[i]`` has inclusive ranges of code points; those below U+0080 are left out."""
    spans = sorted((low, high, ~index) for index, ranges in enumerate(sets) for low, high in ranges)
    nodes: dict[tuple[Span, ...], int] = {}
    leads: list[Span] = []
    for first, length, low, high in _LEADS:
        within = _cut(spans, low, high)
        if within:
            bits = 6 * (length - 1)
            base = first << bits
            # The lead byte's number is just one more digit: 110xxxxx, 1110xxxx, 11110xxx.
            shifted = [(base + start, base + end, to) for start, end, to in within]
            leads.extend(_spell(shifted, bits, nodes))
    return Shape(list(nodes), leads)


def _cut(spans: Sequence[Span], low: int, high: int) -> list[Span]:
    return [(max(start, low), min(end, high), to) for start, end, to in spans if start <= high and end >= low]


def _spell(spans: Sequence[Span], bits: int, nodes: dict[tuple[Span, ...], int]) -> list[Span]:
    """The first byte of numbers that have ``bits`` more bits, six per byte after it."""
    if bits == 0:
        return list(spans)
    found: list[Span] = []
    for block in _blocks(spans, bits):
        first = block[0][0] >> bits
        last = block[-1][1] >> bits
        mask = (1 << bits) - 1
        if first != last:  # whole blocks of one set
            inner = [(0, mask, block[0][2])]
        else:
            inner = [(low & mask, high & mask, to) for low, high, to in block]
        base = 0x80 << (bits - 6)
        rest = _spell([(base + low, base + high, to) for low, high, to in inner], bits - 6, nodes)
        to = nodes.setdefault(tuple(rest), len(nodes))
        if found and found[-1][2] == to and found[-1][1] == first - 1:
            found[-1] = (found[-1][0], last, to)
        else:
            found.append((first, last, to))
    return found


def _blocks(spans: Sequence[Span], bits: int) -> list[list[Span]]:
    """Spans by block of ``1 << bits`` numbers; neighbouring blocks that one span fills are kept as one."""
    size = 1 << bits
    blocks: list[list[Span]] = []
    for low, high, to in spans:
        while low <= high:
            end = low | (size - 1)
            if end > high:
                end = high
            elif low % size == 0:
                end = ((high + 1) // size) * size - 1
            if blocks and blocks[-1][0][0] >> bits == blocks[-1][-1][1] >> bits == low >> bits:
                blocks[-1].append((low, end, to))
            else:
                blocks.append([(low, end, to)])
            low = end + 1
    return blocks
