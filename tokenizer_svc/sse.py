"""Server-sent events as bytes. Knows nothing of what they carry."""

from __future__ import annotations

DONE = b"data: [DONE]\n\n"
HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # proxies that buffer would hold tokens back
}

_END = b"\n\n"


def event(data: bytes, type: str | None = None) -> bytes:
    """One event; ``data`` is one line, as JSON is. ``type`` is for clients that look for it in a line of its own."""
    line = b"" if type is None else b"event: " + type.encode() + b"\n"
    return line + b"data: " + data + _END


def split(events: bytes) -> list[bytes]:
    """Several events, one after the other, each by itself."""
    return [data + _END for data in events.split(_END)[:-1]]


def named(event: bytes, id: str) -> bytes:
    """An event with an id, by which a client can ask for what comes after it."""
    return b"id: " + id.encode() + b"\n" + event
