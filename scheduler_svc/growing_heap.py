"""A heap of items whose keys only ever grow: a key is looked up again when its item comes to the top.

Knows nothing of what the items are.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")
Key = tuple[int, ...]

_SLACK = 64  # items that have left and may be kept, besides as many as there are others


class GrowingHeap(Generic[Item]):
    """Each item once; of equal keys the item added last goes first. Amortised O(log n)."""

    def __init__(self, key: Callable[[Item], Key], stays: Callable[[Item], bool]) -> None:
        """``stays`` says whether an item is still in; those that are not are dropped when they come to the top."""
        self._key = key
        self._stays = stays
        self._heap: list[tuple[Key, int, Item]] = []
        self._held: set[Item] = set()
        self._tickets = itertools.count(0, -1)
        self._most = _SLACK

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, item: Item) -> None:
        """Let an item in, if it is not."""
        if item in self._held:
            return
        if len(self._heap) >= self._most:
            self._heap = [entry for entry in self._heap if self._stays(entry[2])]
            heapq.heapify(self._heap)
            self._held = {entry[2] for entry in self._heap}
            self._most = 2 * len(self._heap) + _SLACK
        self._held.add(item)
        heapq.heappush(self._heap, (self._key(item), next(self._tickets), item))

    @property
    def first(self) -> Item | None:
        """The item with the least key."""
        heap = self._heap
        while heap:
            key, ticket, item = heap[0]
            if not self._stays(item):
                heapq.heappop(heap)
                self._held.discard(item)
            elif (grown := self._key(item)) != key:
                heapq.heapreplace(heap, (grown, ticket, item))
            else:
                return item
        return None
