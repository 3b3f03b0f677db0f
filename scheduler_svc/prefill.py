"""Chunked prefill: how much of an input goes into the next step beside decoding."""

from __future__ import annotations


class ChunkBudget:
    """What is left of one step's budget of prompt tokens."""

    def __init__(self, tokens: int, page_size: int) -> None:
        self.left = tokens
        self._page_size = page_size
        self._untouched = True

    def chunk(self, start: int, total: int) -> int:
        """The length of the next chunk of an input of ``total`` tokens, of which ``start`` are done; 0 for none.

        A chunk that is not the last ends with a page where it can: only whole pages can be shared. A
        rest of the budget smaller than that is left alone, unless it is all there ever is.
        """
        end = min(total, start + self.left)
        if end < total:
            whole = end // self._page_size * self._page_size
            if whole > start:
                end = whole
            elif not self._untouched:
                return 0
        return end - start

    def spend(self, tokens: int) -> None:
        self.left -= tokens
        self._untouched = False
