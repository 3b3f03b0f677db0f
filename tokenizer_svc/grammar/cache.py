"""Finished grammars in memory: as many as fit, least recently used first to go, and all that live requests obey.

Pure: the time is an argument. Knows nothing of what the grammars say.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from math import inf
from typing import NamedTuple

_ENTRY_BYTES = 512  # of an entry besides its data: key, objects, places in the tables


class Entry(NamedTuple):
    """A compiled grammar in its encoded form, or why there is none."""

    data: bytes
    rejection: str | None = None
    expires: float = inf


class Cache:
    """Entries by key. Those that are held stay; the others share ``max_bytes``."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._recent: OrderedDict[str, Entry] = OrderedDict()
        self._bytes = 0
        self._holders: Counter[str] = Counter()
        self._held: dict[str, Entry] = {}

    def get(self, key: str, now: float) -> Entry | None:
        """What is known of a grammar, if that is not too old."""
        if held := self._held.get(key):
            return held
        entry = self._recent.get(key)
        if entry is None:
            return None
        if entry.expires <= now:
            self._drop(key)
            return None
        self._recent.move_to_end(key)
        return entry

    def put(self, key: str, entry: Entry) -> list[str]:
        """Remember a result; one that someone holds already is kept until the last has let go.

        Returns the keys that had to go for it.
        """
        if key in self._recent:
            self._drop(key)
        if key in self._holders and entry.rejection is None:
            self._held[key] = entry
            return []
        self._recent[key] = entry
        self._bytes += len(entry.data) + _ENTRY_BYTES
        gone: list[str] = []
        while self._bytes > self._max_bytes:
            gone.append(next(iter(self._recent)))
            self._drop(gone[-1])
        return gone

    def hold(self, key: str) -> bool:
        """Keep a grammar, be it known yet or not; whether this is the first to hold it."""
        self._holders[key] += 1
        if self._holders[key] > 1:
            return False
        entry = self._recent.get(key)
        if entry is not None and entry.rejection is None:
            self._drop(key)
            self._held[key] = entry
        return True

    def release(self, key: str) -> list[str]:
        """Undo one :meth:`hold`. Returns the keys that had to go."""
        self._holders[key] -= 1
        if self._holders[key] > 0:
            return []
        del self._holders[key]
        entry = self._held.pop(key, None)
        return [] if entry is None else self.put(key, entry)

    def held(self) -> Mapping[str, Entry]:
        """The known grammars that someone holds: a view."""
        return self._held

    def _drop(self, key: str) -> None:
        self._bytes -= len(self._recent.pop(key).data) + _ENTRY_BYTES
