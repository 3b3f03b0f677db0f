"""The output of a batch: appended to line by line, and read again to go on after a run that was ended.

A line is written with one call, so that a run that is killed leaves at most half a line, which the next one cuts off.
Results stand in the order in which they came; :func:`put_in_order` changes that once all are there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

from rootstream.batch.lines import BadLine, Result, mark_of, read_result, write_result
from shared.errors import UserError

_COPIED = 2**20


class Results:
    """An output file, locked against a second run.

    ``good`` and ``failed`` are the marks of what is in it.
    """

    def __init__(self, path: Path, *, kept_back: bool = False) -> None:
        """``kept_back``: what goes into a pipe waits for its end, because it will be put in order.

        Raises UserError where the file cannot be written, or holds something else.
        """
        self.path = path
        self.is_piped = str(path) == "-"
        self._kept_back = kept_back
        self.good: set[bytes] = set()
        self.failed: set[bytes] = set()
        self._file = self._opened()
        try:
            self._read()
        except BadLine as error:
            self._file.close()
            raise UserError(f"{path} {error}: is it the output of another program? Name another file") from error

    def add(self, result: Result) -> None:
        """Raises UserError where the disk is full."""
        line = write_result(result)
        (self.good if result.is_good else self.failed).add(mark_of(result.custom_id))
        try:
            while line:
                line = line[os.write(self._file.fileno(), line) :]
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written: {error.strerror}: make room and run the same again"
            ) from error

    def forget_failed(self) -> None:
        """Leave out what failed, so that it is asked again."""
        if self.failed:
            self._replace(line for line, result in self._results() if result.is_good)
            self.failed = set()

    def put_in_order(self, lines: Mapping[bytes, int]) -> None:
        """Order what there is by the lines of the input, which ``lines`` has by marks."""
        places: list[tuple[int, int, int]] = []
        at = 0
        for line, result in self._results():
            places.append((lines.get(mark_of(result.custom_id), sys.maxsize), at, len(line)))
            at += len(line)
        places.sort()
        self._replace(self._pieces(places))

    def close(self) -> None:
        """What was written is on the disk then, or has gone through the pipe."""
        if self.is_piped and self._kept_back:
            self._file.seek(0)
            with contextlib.suppress(BrokenPipeError):
                shutil.copyfileobj(self._file, sys.stdout.buffer, _COPIED)
                sys.stdout.buffer.flush()
        else:
            with contextlib.suppress(OSError):  # a device has nothing to keep
                os.fsync(self._file.fileno())
        self._file.close()

    def _opened(self) -> IO[bytes]:
        if self.is_piped:
            if self._kept_back:
                return tempfile.TemporaryFile(buffering=0)
            return os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
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

    def _read(self) -> None:
        """Learn what is there, and cut off half a line."""
        if self.is_piped or not self._file.seekable():
            return
        whole = 0
        for line, result in self._results():
            whole += len(line)
            (self.good if result.is_good else self.failed).add(mark_of(result.custom_id))
        if whole < self._file.seek(0, os.SEEK_END):
            self._file.truncate(whole)

    def _results(self) -> Iterator[tuple[bytes, Result]]:
        """Every whole line. Raises BadLine."""
        with os.fdopen(os.dup(self._file.fileno()), "rb") as file:
            file.seek(0)
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    return
                try:
                    yield line, read_result(line)
                except BadLine as error:
                    raise BadLine(f"line {number} is no result ({error})") from error

    def _pieces(self, places: Iterable[tuple[int, int, int]]) -> Iterator[bytes]:
        for _, start, length in places:
            yield os.pread(self._file.fileno(), length, start)

    def _replace(self, lines: Iterable[bytes]) -> None:
        """Put other lines in place of what there is: at once, so that a kill leaves the one or the other."""
        if self.is_piped:
            other = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed with the results
            other.writelines(lines)
            self._file.close()
            self._file = other
            return
        beside = self.path.with_name(f".{self.path.name}.new")
        with beside.open("wb") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(self.path, beside)
        beside.replace(self.path)
        self._file.close()
        self._file = self._opened()


def is_well_known(results: Results, marks: Mapping[bytes, int]) -> bool:
    """Whether what an output has belongs to this input: any of it, or there is none."""
    there = results.good | results.failed
    return not there or any(mark in marks for mark in there)
