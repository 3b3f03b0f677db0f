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

    __slots__ = ("_data", "_rest")

    def __init__(self) -> None:
        self._rest = bytearray()  # of a line
        self._data: list[bytes] = []  # lines of the event that is under way

    def push(self, chunk: bytes) -> list[bytes]:
        """The data of each event that ends in this chunk. Raises TooLong."""
        found: list[bytes] = []
        ended = self._rest.endswith(b"\r") or b"\n" in chunk or b"\r" in chunk  # a line, perhaps
        self._rest += chunk
        if ended:
            text = bytes(self._rest)
            held = text.endswith(b"\r")  # the first half of a \r\n, perhaps
            *lines, rest = _LINE_END.split(text[:-1] if held else text)
            self._rest = bytearray(rest + b"\r" if held else rest)
            for line in lines:
                self._read(line, found)
        if len(self._rest) + sum(map(len, self._data)) + len(self._data) > EVENT_BYTES:
            raise TooLong(f"an event of more than {EVENT_BYTES} bytes")
        return found

    def _read(self, line: bytes, found: list[bytes]) -> None:
        if not line:
            if self._data:
                found.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data = []
        elif line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif line == b"data":
            self._data.append(b"")
