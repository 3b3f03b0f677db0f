"""Server-sent events as bytes. Knows nothing of what they carry."""

from __future__ import annotations

DONE = b"data: [DONE]\n\n"
HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # proxies that buffer would hold tokens back
}


def event(data: bytes) -> bytes:
    """One event; ``data`` is one line, as JSON is."""
    return b"data: " + data + b"\n\n"
