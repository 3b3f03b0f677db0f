"""Server-sent events out of bytes as they arrive. Pure; knows nothing of what the events say.

Source: HTML Living Standard, section 9.2, as far as our server uses it: fields ``id`` and ``data``, LF ends.
"""

from __future__ import annotations

from typing import NamedTuple


class Sse(NamedTuple):
    """One event; ``id`` is what a client sends as Last-Event-ID to continue after it."""

    data: str
    id: str | None = None


class SseReader:
    """Cuts a stream of bytes into events; half an event waits for the rest."""

    def __init__(self) -> None:
        self.rest = b""

    def push(self, data: bytes) -> list[Sse]:
        *whole, self.rest = (self.rest + data).split(b"\n\n")
        return [event for block in whole if (event := _read(block)) is not None]


def _read(block: bytes) -> Sse | None:
    """One block of fields; None for a comment, which is how servers keep a connection open."""
    data: list[str] = []
    id: str | None = None
    for line in block.decode().split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                data.append(value)
            case "id":
                id = value
            case _:
                pass
    return Sse("\n".join(data), id) if data else None
