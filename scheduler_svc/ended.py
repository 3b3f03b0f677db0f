"""Requests that ended not long ago: late announcements are recognised, and how they ended can be told again. Pure."""

from __future__ import annotations

from typing import NamedTuple

from shared.protocol import Failed, Finish, Scores, Vector
from shared.scores import size_of

_WEIGHT = 200  # bytes that one takes besides its tokens


class Ending(NamedTuple):
    """How a request ended."""

    output: bytes  # int32
    finish: Finish
    failed: Failed | None = None
    scores: Scores | None = None
    vector: Vector | None = None

    @property
    def weight(self) -> int:
        """About how many bytes it takes."""
        vector = 0 if self.vector is None else len(self.vector.values)
        return _WEIGHT + len(self.output) + size_of(self.scores) + vector


class Ended:
    """The last requests that ended, as many as fit into ``room`` bytes."""

    def __init__(self, room: int = 32 * 2**20) -> None:
        self._room = room
        self._endings: dict[int, Ending] = {}  # oldest first

    def __contains__(self, id: int) -> bool:
        return id in self._endings

    def get(self, id: int) -> Ending | None:
        return self._endings.get(id)

    def add(self, id: int, ending: Ending) -> None:
        """Remember one, and forget the oldest where there is no room."""
        self._endings[id] = ending
        self._room -= ending.weight
        while self._room < 0 and len(self._endings) > 1:
            self._room += self._endings.pop(next(iter(self._endings))).weight
