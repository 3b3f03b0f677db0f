"""A file of lines that grows while a run lasts, and is read again by the run after it.

A line is written with one call, so that a process that is killed leaves at most half a line, which is not read and can
be cut off. One process holds the file at a time. Knows nothing of what the lines say.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple, Self

from shared.errors import UserError

_COPIED = 2**20


class Place(NamedTuple):
    """Where a line stands, in bytes."""

    start: int
    length: int


class LineFile:
    """An open file of lines. One that is no file on a disk can only be appended to."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path = path
        self._file = file

    @classmethod
    def at(cls, path: Path) -> Self:
        """Raises UserError where it cannot be written, or somebody else holds it."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+b", buffering=0)
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise UserError(f"{path} is being written by another run: wait for it, or name another file") from None
        return cls(path, file)

    @property
    def is_readable(self) -> bool:
        return self._file.seekable()

    @property
    def end(self) -> int:
        return self._file.seek(0, os.SEEK_END)

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
        if end < self.end:
            self._file.truncate(end)

    def read(self, place: Place) -> bytes:
        return os.pread(self._file.fileno(), place.length, place.start)

    def append(self, line: bytes) -> None:
        """Raises UserError where the disk is full."""
        try:
            while line:
                line = line[os.write(self._file.fileno(), line) :]
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written: {error.strerror}: make room and run the same again"
            ) from error

    def copy_to(self, file: BinaryIO) -> None:
        """All that is in it."""
        self._file.seek(0)
        shutil.copyfileobj(self._file, file, _COPIED)

    def close(self) -> None:
        """What was written is on the disk then."""
        with contextlib.suppress(OSError):  # a device has nothing to keep
            os.fsync(self._file.fileno())
        self._file.close()
