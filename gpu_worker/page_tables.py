"""Which pages of which rows the device has not been told of yet: it keeps page tables, and they only ever grow."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gpu_worker.batch import Batch, Int32, Int64


class PageNews(NamedTuple):
    """D new entries of the page tables on the device."""

    cells: Int64  # [D], row slot * width + place in the row's table
    pages: Int32  # [D]


class PageTables:
    """How much of each row's page table the device has."""

    def __init__(self, batch: Batch, width: int) -> None:
        """``width`` is that of the tables on the device."""
        self._batch = batch
        self._width = width
        self._sent = np.zeros(len(batch.ids), np.int32)

    def admitted(self, row: int) -> None:
        """A row slot begins anew."""
        self._sent[row] = 0

    def news(self, rows: Int64) -> PageNews:
        """What is new of these rows. It must be sent: it is not told again."""
        batch = self._batch
        new = np.flatnonzero(batch.num_pages[rows] > self._sent[rows])
        if not len(new):
            return PageNews(np.zeros(0, np.int64), np.zeros(0, np.int32))
        cells: list[Int64] = []
        pages: list[Int32] = []
        for row in rows[new].tolist():
            begin, end = int(self._sent[row]), int(batch.num_pages[row])
            cells.append(np.arange(row * self._width + begin, row * self._width + end))
            pages.append(batch.page_tables[row, begin:end])
            self._sent[row] = end
        return PageNews(np.concatenate(cells), np.concatenate(pages))
