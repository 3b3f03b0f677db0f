"""Which packed columns of a message belong together, and whether they do.

A message may be well typed and still contradict itself: three ids and two counts, a negative length. Readers would
fall over it halfway through; it is refused whole, before any of them sees it. Knows no message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

INT32, UINT64, UINT8, ITEMS, FLOAT32 = 4, 8, 1, 0, -4
"""What a column holds: packed values of so many bytes, or a tuple's items; a minus tells floats from whole numbers."""

_NONE: Mapping[str, int] = {}


class Columns(NamedTuple):
    """Columns of one table. Whole numbers of 32 bits are counts, indices or token ids: none is negative."""

    rows: Mapping[str, int]  # one value per row
    cells: Mapping[str, int] = _NONE  # ``counts[i]`` values for row i
    counts: str = ""
    optional: tuple[str, ...] = ()  # may be empty where the others are not
    codes: Mapping[str, int] = _NONE  # columns of bytes, and the largest value of each
    wide: tuple[Mapping[str, int], ...] = ()  # as many values for each row as for any other, alike in each group


def flaw(message: Any, columns: Columns) -> str | None:
    """What is wrong with a table of ``message``, None where nothing is."""
    size: int | None = None
    for name, kind in columns.rows.items():
        column = getattr(message, name)
        if not column and name in columns.optional:
            continue
        width = abs(kind)
        if kind == INT32 and not _natural(column):
            return f"{name} is no column of whole numbers from 0"
        if width and len(column) % width:
            return f"{name} has {len(column)} bytes, no multiple of {width}"
        count = len(column) // (width or 1)
        if size is not None and count != size:
            return f"{name} has {count} values for {size} rows"
        size = count
    for name, most in columns.codes.items():
        if max(getattr(message, name), default=0) > most:
            return f"{name} has a code above {most}"
    for group in columns.wide:
        if reason := _flaw_of_wide(message, group, size or 0):
            return reason
    return _flaw_of_cells(message, columns) if columns.cells else None


def _flaw_of_wide(message: Any, group: Mapping[str, int], rows: int) -> str | None:
    count: int | None = None
    for name, kind in group.items():
        column, width = getattr(message, name), abs(kind)
        if kind == INT32 and not _natural(column):
            return f"{name} is no column of whole numbers from 0"
        if len(column) % (width * (rows or 1)) or (column and not rows):
            return f"{name} has {len(column)} bytes, not as many for each of {rows} rows"
        if count is not None and len(column) // width != count:
            return f"{name} has {len(column) // width} values for {count} of its group"
        count = len(column) // width
    return None


def _flaw_of_cells(message: Any, columns: Columns) -> str | None:
    size = sum(memoryview(getattr(message, columns.counts)).cast("i"))
    for name, kind in columns.cells.items():
        column = getattr(message, name)
        if not column and name in columns.optional:
            continue
        width = abs(kind)
        if kind == INT32 and not _natural(column):
            return f"{name} is no column of whole numbers from 0"
        if len(column) != size * width:
            return f"{name} has {len(column)} bytes for {size} values of {width}"
    return None


def _natural(column: bytes) -> bool:
    """Whether these are int32 without a sign bit, which is the highest bit of each fourth byte."""
    return len(column) % INT32 == 0 and column[3::4].isascii()
