"""Chunked prefill: how much of an input goes into the next step beside decoding."""

from __future__ import annotations

from typing import NamedTuple

_MOST_SCORED = 512  # logits of a step besides those that tokens are drawn from: 100 MB for 49,152 tokens


class Chunk(NamedTuple):
    """The next tokens of an input."""

    length: int  # 0 for none
    scored: int = 0  # tokens of the input that are scored by the logits of these
    is_crowded: bool = False  # cut short because enough is scored in this step


class ChunkBudget:
    """What is left of one step's budget of prompt tokens, and of those that are scored."""

    def __init__(self, tokens: int, page_size: int) -> None:
        self.left = tokens
        self._page_size = page_size
        self._scores_left = _MOST_SCORED
        self._untouched = True

    def chunk(self, start: int, total: int, unscored: int | None = None) -> Chunk:
        """The next chunk of an input of ``total`` tokens, of which ``start`` are done.

        Tokens from position ``unscored`` on are scored, each by the logits of the one before it. A chunk that is not
        the last ends with a page where it can: only whole pages can be shared. A rest of the budget smaller than
        that is left alone, unless it is all there ever is.
        """
        end = min(total, start + self.left)
        first = total if unscored is None else max(start + 1, unscored)
        is_crowded = min(end, total - 1) - first + 1 > self._scores_left
        if is_crowded:
            end = max(start, first - 1 + self._scores_left)
        if end < total:
            whole = end // self._page_size * self._page_size
            if whole > start:
                end = whole
            elif not self._untouched:
                return Chunk(0, is_crowded=is_crowded)
        return Chunk(end - start, max(0, min(end, total - 1) - first + 1), is_crowded)

    def spend(self, chunk: Chunk) -> None:
        self.left -= chunk.length
        self._scores_left -= chunk.scored
        self._untouched = False
