"""The output of a batch: appended to line by line, and read again to go on after a run that was ended.

Results stand in the order in which they came; :func:`put_in_order` changes that once all are there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from rootstream.batch.lines import BadLine, Result, mark_of, read_result, write_result
from rootstream.line_file import LineFile, Place
from shared.errors import UserError


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
        (self.good if result.is_good else self.failed).add(mark_of(result.custom_id))
        self._file.append(write_result(result))

    def forget_failed(self) -> None:
        """Leave out what failed, so that it is asked again."""
        if self.failed:
            self._replace(line for _, line, result in self._results() if result.is_good)
            self.failed = set()

    def put_in_order(self, lines: Mapping[bytes, int]) -> None:
        """Order what there is by the lines of the input, which ``lines`` has by marks."""
        places = [(lines.get(mark_of(result.custom_id), sys.maxsize), place) for place, _, result in self._results()]
        places.sort()
        self._replace(self._file.read(place) for _, place in places)

    def close(self) -> None:
        """What was written is on the disk then, or has gone through the pipe."""
        if self.is_piped and self._kept_back:
            with contextlib.suppress(BrokenPipeError):
                self._file.copy_to(sys.stdout.buffer)
                sys.stdout.buffer.flush()
        self._file.close()

    def _opened(self) -> LineFile:
        if not self.is_piped:
            return LineFile.at(self.path)
        if self._kept_back:
            return LineFile(self.path, tempfile.TemporaryFile(buffering=0))
        return LineFile(self.path, os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0))

    def _read(self) -> None:
        """Learn what is there, and cut off half a line."""
        if self.is_piped or not self._file.is_readable:
            return
        whole = 0
        for place, _, result in self._results():
            whole = place.start + place.length
            (self.good if result.is_good else self.failed).add(mark_of(result.custom_id))
        self._file.cut_at(whole)

    def _results(self) -> Iterator[tuple[Place, bytes, Result]]:
        """Every whole line. Raises BadLine."""
        for number, (place, line) in enumerate(self._file.lines(), start=1):
            try:
                yield place, line, read_result(line)
            except BadLine as error:
                raise BadLine(f"line {number} is no result ({error})") from error

    def _replace(self, lines: Iterable[bytes]) -> None:
        """Put other lines in place of what there is: at once, so that a kill leaves the one or the other."""
        if self.is_piped:
            other = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed with the results
            other.writelines(lines)
            self._file.close()
            self._file = LineFile(self.path, other)
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
