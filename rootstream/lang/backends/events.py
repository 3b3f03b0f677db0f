"""Server-sent events out of bytes as they arrive. Pure; knows nothing of what the events say.

Source: HTML Living Standard, section 9.2, as far as APIs use it: of an event only its data.
"""

from __future__ import annotations

import re

EVENT_BYTES = 64 * 2**20
_LINE_END = re.compile(rb"\r\n|\n|\r")


class TooLong(ValueError):
    """An event longer than anybody means to send."""


class EventReader:
    """Cuts a stream of bytes into the data of its events; half an event waits for the rest."""

    __slots__ = ("_data", "_rest", "_size")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def push(self, chunk: bytes) -> list[bytes]:
        """The data of each event that ends in this chunk. Raises TooLong."""
        if b"\n" not in chunk and b"\r" not in chunk:  # long events come in pieces: no line of theirs ends here
            self._rest += chunk
            self._bound(len(chunk))
            return []
        text = self._rest + chunk
        held = b""
        if text.endswith(b"\r"):  # the first half of a \r\n, perhaps
            text, held = text[:-1], b"\r"
        *lines, rest = text.split(b"\n") if b"\r" not in text else _LINE_END.split(text)
        self._rest = rest + held
        self._bound(len(chunk))
        found: list[bytes] = []
        for line in lines:
            self._read(line, found)
        return found

    def _read(self, line: bytes, found: list[bytes]) -> None:
        if not line:
            if self._data:
                found.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data = []
            self._size = len(self._rest)
        elif line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif line == b"data":
            self._data.append(b"")

    def _bound(self, more: int) -> None:
        self._size += more
        if self._size > EVENT_BYTES:
            raise TooLong(f"an event of more than {EVENT_BYTES} bytes")
