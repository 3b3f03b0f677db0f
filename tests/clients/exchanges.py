"""What went over the wire: a request, and the whole answer to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple


class Exchange(NamedTuple):
    """One request with its answer. ``broken_off``: the client left before the answer's end."""

    method: str
    path: str
    request: bytes
    status: int
    content_type: str
    answer: bytes
    broken_off: bool = False

    @property
    def streamed(self) -> bool:
        return self.content_type.startswith("text/event-stream")

    @property
    def asked(self) -> dict[str, Any]:
        """The body of the request; empty where it is no JSON object."""
        try:
            body = json.loads(self.request)
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}

    def __str__(self) -> str:
        request = self.request.decode(errors="replace")
        answer = self.answer.decode(errors="replace")
        return f"{self.method} {self.path}\n{request}\n→ {self.status} {self.content_type}\n{answer}"


class Event(NamedTuple):
    """One server-sent event."""

    name: str | None
    data: str


def events(answer: bytes) -> Iterator[Event]:
    """The whole events of a stream; comments are left out, and so is an event that was cut off."""
    blocks = answer.decode(errors="replace").split("\n\n")
    for block in blocks[:-1]:
        fields = [line.partition(":") for line in block.split("\n") if not line.startswith(":")]
        data = [value.removeprefix(" ") for field, _, value in fields if field == "data"]
        names = [value.removeprefix(" ") for field, _, value in fields if field == "event"]
        if data:
            yield Event(names[-1] if names else None, "\n".join(data))
