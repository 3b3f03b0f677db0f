"""A file of lines that grows while a run lasts, and is read again by the run after it.

A line is written with one call, so that a process that is killed leaves at most half a line, which is not read and can
be cut off. One process holds the file at a time. Knows nothing of what the lines say.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from shared.errors import UserError


class Place(NamedTuple):
    """Where a line stands, in bytes."""

    start: int
    length: int


class LineFile:
    """An open file of lines, locked."""

    def __init__(self, path: Path) -> None:
        """Raises UserError where it cannot be written, or somebody else holds it."""
        self.path = path
        self._file = self._opened()

    def lines(self) -> Iterator[tuple[Place, bytes]]:
        """Every whole line with its end."""
        start = 0
        with os.fdopen(os.dup(self._file.fileno()), "rb") as file:
            file.seek(0)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                yield Place(start, len(line)), line
                start += len(line)

    def cut_at(self, end: int) -> None:
        """Leave out what comes after so many bytes."""
        if end < self._file.seek(0, os.SEEK_END):
            self._file.truncate(end)

    def read(self, place: Place) -> bytes:
        return os.pread(self._file.fileno(), place.length, place.start)

    def append(self, line: bytes) -> Place:
        """Where it stands now. Raises UserError where the disk is full."""
        place = Place(self._file.seek(0, os.SEEK_END), len(line))
        try:
            while line:
                line = line[os.write(self._file.fileno(), line) :]
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written: {error.strerror}: make room and run the same again"
            ) from error
        return place

    def close(self) -> None:
        """What was written is on the disk then."""
        with contextlib.suppress(OSError):  # a device has nothing to keep
            os.fsync(self._file.fileno())
        self._file.close()

    def _opened(self) -> IO[bytes]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("a+b", buffering=0)
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise UserError(f"{self.path} is being written by another run: wait for it, or name another file") from None
        return file
