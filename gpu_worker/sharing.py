"""Which decode rows read the same pages: a radix tree's prefixes, seen from the page tables of one step.

Rows whose requests hang on one node of the scheduler's tree hold the same page numbers in the same places. Attention
reads such a run of pages once for all of them. Pure numpy; knows nothing of tensors.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]

MIN_SHARED_TOKENS = 64  # below that a merge costs more than reading twice


class Sharing(NamedTuple):
    """Segments of whole pages that two or more of R rows read.

    Segment s is the pages ``[begins[s], ends[s])`` of the page tables of the rows
    ``members[offsets[s]:offsets[s + 1]]``; all of its tokens lie before these rows' last token. A row's segments follow
    one another from page 0 on; from page ``own[r]`` on it is alone.
    """

    begins: Int32  # [S]
    ends: Int32  # [S]
    offsets: Int32  # [S + 1]
    members: Int32  # [M], indices of rows
    own: Int32  # [R]

    @property
    def num_segments(self) -> int:
        return len(self.begins)


def nothing_shared(rows: int) -> Sharing:
    """Every row reads everything itself."""
    empty = np.zeros(0, np.int32)
    return Sharing(empty, empty, np.zeros(1, np.int32), empty, np.zeros(rows, np.int32))


def find_sharing(page_tables: Int32, kv_lens: Int32, page_size: int, min_tokens: int = MIN_SHARED_TOKENS) -> Sharing:
    """What R rows share; ``page_tables`` is int32 [R, P], ``kv_lens`` [R] counts the token that each computes now.

    Segments are as long as they can be, at least ``min_tokens``; a group that splits further on is several segments.
    """
    rows = len(kv_lens)
    own = np.zeros(rows, np.int32)
    whole = (kv_lens.astype(np.int64) - 1) // page_size  # pages that lie before the row's last token
    begins: list[int] = []
    ends: list[int] = []
    groups: list[NDArray[np.intp]] = []
    todo: list[tuple[NDArray[np.intp], int]] = [(np.arange(rows), 0)]
    while todo:
        members, at = todo.pop()
        members = members[whole[members] > at]
        if len(members) < 2:
            continue
        pages = page_tables[members, at]
        order = np.argsort(pages, kind="stable")
        cuts = np.flatnonzero(np.diff(pages[order])) + 1
        for group in np.split(members[order], cuts):
            if len(group) < 2:
                continue
            bound = int(whole[group].min())
            same = (page_tables[group, at:bound] == page_tables[group[0], at:bound]).all(axis=0)
            length = int(same.argmin()) if not same.all() else len(same)
            if length * page_size < min_tokens:
                continue
            begins.append(at)
            ends.append(at + length)
            groups.append(group)
            own[group] = at + length
            todo.append((group, at + length))
    if not groups:
        return nothing_shared(rows)
    offsets = np.zeros(len(groups) + 1, np.int32)
    np.cumsum([len(group) for group in groups], out=offsets[1:])
    return Sharing(
        np.array(begins, np.int32), np.array(ends, np.int32), offsets, np.concatenate(groups).astype(np.int32), own
    )
