"""The input of a batch: looked through once before anything is sent, then read again line by line.

Never whole in memory. What comes through a pipe is kept in a temporary file, because it is read twice. Of each request
only a mark of its id is remembered.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from rootstream.batch.lines import BadLine, Request, mark_of, read_request
from shared.errors import UserError

_BOM = b"\xef\xbb\xbf"
_MOST_SHOWN = 20


class Numbered(NamedTuple):
    """A request and where it stands, counted from 1."""

    line: int
    request: Request


class Index(NamedTuple):
    """Of which requests an input consists: the mark of each id, and the line where it stands."""

    lines: dict[bytes, int]

    def __len__(self) -> int:
        return len(self.lines)


class Source:
    """An open input."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.name = name
        self._file = file

    def requests(self) -> Iterator[Numbered]:
        """All of them, from the start. Raises BadLine with the number of the line."""
        for number, line in self._lines():
            try:
                yield Numbered(number, read_request(line))
            except BadLine as error:
                raise BadLine(f"line {number}: {error}") from error

    def look_through(self, is_known: Callable[[str], str | None]) -> Index:
        """Check every line. ``is_known`` says what is wrong with a url, None for nothing.

        Raises UserError that tells all that is wrong, by line.
        """
        lines: dict[bytes, int] = {}
        wrong: list[str] = []
        for number, line in self._lines():
            try:
                request = read_request(line)
                mark = mark_of(request.custom_id)
                first = lines.setdefault(mark, number)
                if first != number:
                    raise BadLine(f"custom_id {request.custom_id!r} is that of line {first}: each must be its own")
                if (unknown := is_known(request.url)) is not None:
                    raise BadLine(unknown)
            except BadLine as error:
                wrong.append(f"line {number}: {error}")
        if wrong:
            shown = wrong[:_MOST_SHOWN] + ([f"and {len(wrong) - _MOST_SHOWN} more"] * (len(wrong) > _MOST_SHOWN))
            raise UserError("\n  ".join([f"{self.name}: {len(wrong)} bad lines, nothing was sent", *shown]))
        return Index(lines)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Those that hold something."""
        self._file.seek(0)
        for number, line in enumerate(self._file, start=1):
            text = (line.removeprefix(_BOM) if number == 1 else line).strip()
            if text:
                yield number, text

    def close(self) -> None:
        self._file.close()


def open_source(path: Path) -> Source:
    """A file, or what comes through a pipe for `-`. Raises UserError."""
    try:
        if str(path) != "-":
            file = path.open("rb")
            if file.seekable():
                return Source(file, str(path))
            name = str(path)
        else:
            file, name = sys.stdin.buffer, "standard input"
        kept = tempfile.TemporaryFile()  # noqa: SIM115 - the source closes it
        shutil.copyfileobj(file, kept)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    return Source(kept, name)
