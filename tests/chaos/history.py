"""What clients saw and what was done to the deployment, as records that can be kept on disk and read again.

All times are unix seconds of one clock: clients and injector live in one process.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

RETRIED = (429, 503)  # statuses that ask a client to come again


class Outcome(enum.StrEnum):
    """How a connection ended."""

    ENDED = "ended"  # the server ended the response in good order
    CUT = "cut"  # by ourselves, on purpose
    DIED = "died"  # reset or closed in the middle of the response
    REFUSED = "refused"  # an HTTP status other than 200
    UNREACHABLE = "unreachable"  # nobody answered
    HUNG = "hung"  # open, and silent for longer than anybody waits


class Event(msgspec.Struct, frozen=True):
    """One server-sent event."""

    at: float
    data: str
    id: str | None = None


class Connection(msgspec.Struct):
    """One HTTP exchange of a stream. ``after``: the Last-Event-ID it continued from."""

    began: float
    after: str | None = None
    port: int | None = None  # our end of it: tells whose process held the other end
    ended: float = 0.0
    outcome: Outcome = Outcome.UNREACHABLE
    status: int | None = None
    detail: str = ""


class Ask(msgspec.Struct, frozen=True):
    """A request, and what is known of its answer before any server has seen it."""

    name: str
    kind: str
    path: str
    body: dict[str, Any]
    choices: int = 1
    tokens: int | None = None  # of every choice, where they are certain
    pattern: str | None = None  # that every choice's text matches as a whole
    schema: dict[str, Any] | None = None  # that every choice's text obeys
    resumable: bool = False


class Stream(msgspec.Struct):
    """One client's history of one request: every event over all its connections, in the order they came."""

    ask: str
    number: int
    connections: list[Connection] = msgspec.field(default_factory=list[Connection])
    events: list[Event] = msgspec.field(default_factory=list[Event])

    @property
    def began(self) -> float:
        return self.connections[0].began

    @property
    def last(self) -> Connection:
        return self.connections[-1]


class Outage(msgspec.Struct):
    """A time in which a process was away: from its death to its ready pulse, or as long as it was frozen."""

    member: str
    since: float
    until: float | None = None  # not back yet
    started: float | None = None  # when the process in its place was started


class Injected(msgspec.Struct):
    """A fault as it was done."""

    number: int
    kind: str
    targets: tuple[str, ...]
    at: float
    outages: list[Outage] = msgspec.field(default_factory=list[Outage])
    severed: set[int] = msgspec.field(default_factory=set[int])  # our ports of connections that died with a process
    front_doors: int = 0  # killed: whatever they had not accepted yet died too


_T = TypeVar("_T")
_encoder = msgspec.json.Encoder()


def write(path: Path, records: Iterable[msgspec.Struct]) -> None:
    """One JSON object per line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as out:
        out.writelines(_encoder.encode(record) + b"\n" for record in records)


def read(path: Path, kind: type[_T]) -> list[_T]:
    """Inverse of :func:`write`."""
    decoder = msgspec.json.Decoder(kind)
    return [decoder.decode(line) for line in path.read_bytes().splitlines()]
