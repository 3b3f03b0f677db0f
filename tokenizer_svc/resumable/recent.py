"""Answers that ended here not long ago: for a while Redis is not the only one that has them. Pure.

Whoever lost its connection near the end of an answer comes back within seconds. If Redis loses its data just then, the
log is written again from here. Later, or beyond ``room``, an answer that has ended is in Redis alone.
"""

from __future__ import annotations

from typing import NamedTuple

from tokenizer_svc.resumable.writer import Writer

_KEPT_S = 60.0
_ROOM = 16 * 2**20


class _Kept(NamedTuple):
    writer: Writer
    until: float
    bytes: int


class Recent:
    """The last writers that came to an end, oldest first."""

    def __init__(self, room: int = _ROOM) -> None:
        """``room``: bytes that their answers may take."""
        self._room = room
        self._kept: dict[int, _Kept] = {}

    def add(self, writer: Writer, now: float) -> None:
        """Remember a writer that has written its end; ``now`` in seconds of any clock."""
        kept = _Kept(writer, now + min(_KEPT_S, writer.tail.record.keep_s), writer.size)
        self._kept[writer.tail.id] = kept
        self._room -= kept.bytes
        self.forget_old(now)

    def forget(self, id: int) -> None:
        """Its client had it deleted."""
        if kept := self._kept.pop(id, None):
            self._room += kept.bytes

    def forget_old(self, now: float) -> None:
        for id, kept in tuple(self._kept.items()):
            if kept.until > now and self._room >= 0:
                return
            self.forget(id)

    @property
    def writers(self) -> list[Writer]:
        return [kept.writer for kept in self._kept.values()]
