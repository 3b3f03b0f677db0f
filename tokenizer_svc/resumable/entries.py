"""What the log of an answer holds: entries, their places, and the ids that clients know them by.

The log is the truth about an answer: what is not in it was never sent. It holds pieces of text and no rendered
events: events follow from the pieces and from the request, byte for byte, in whatever process. A place is
(term, seq): a writer appends at seq, seq + 1, … of its term, and whoever takes the answer over opens the next
term. The streams' server refuses a place that is not beyond the last one, and so fences a writer that was
replaced and does not know it. Knows nothing of streams or HTTP.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from shared import columns, protocol
from shared.protocol import Finish, Scores, Vector
from shared.scores import size_of as size_of_scores
from shared.undecodable import UNDECODABLE
from tokenizer_svc.announcements import Announcement
from tokenizer_svc.answers import Choice, Piece
from tokenizer_svc.rendering import ANSWER_PREFIX


class Place(NamedTuple):
    """Where an entry is in its log."""

    term: int
    seq: int

    @classmethod
    def parse(cls, text: str) -> Place:
        term, _, seq = text.partition("-")
        return cls(int(term), int(seq))

    @property
    def next(self) -> Place:
        return Place(self.term, self.seq + 1)

    def __str__(self) -> str:
        return f"{self.term}-{self.seq}"


BEFORE_ALL = Place(0, 0)
FIRST = Place(1, 0)
GONE = Place(2**62, 0)  # no writer comes after it


class _Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of all entries."""


class Owner(_Entry, frozen=True):
    """The process that writes a log."""

    replica: str
    incarnation: int


class Announced(_Entry, frozen=True):
    """One choice of the answer, and how it was announced."""

    id: int
    prompt: int
    prompt_tokens: int
    generate: bytes  # as shared.protocol encodes it
    track: bytes
    context: bytes = b""  # int32: the last few ids of its prompt


class Record(_Entry, frozen=True, tag=1):
    """The first entry: everything that another process needs to go on."""

    answer_id: str  # as clients know it
    path: str  # of the API
    body: bytes  # of the request: JSON, its keys in order
    tenant: str
    client: str  # who takes turns at compiling grammars
    owner: Owner
    detokenizer: str
    model: str  # as events name it
    arrived: float  # unix seconds
    stream: bool
    background: bool
    shares_id: bool
    grace_s: float
    keep_s: int
    sequences: tuple[Announced, ...]

    @property
    def id(self) -> int:
        return self.sequences[0].id


class Claim(_Entry, frozen=True, tag=2):
    """Another process goes on, in a term of its own."""

    owner: Owner
    detokenizer: str


class Started(_Entry, frozen=True, tag=3):
    """The scheduler took the request: a stream has begun."""

    at: float


class LoggedPiece(_Entry, frozen=True):
    """A piece of one choice, as in :class:`tokenizer_svc.answers.Piece`."""

    choice: int
    text: str
    tokens: bytes  # int32
    finish: int
    matched: str | int | None
    completion_tokens: int
    forced_tokens: int
    cached_tokens: int
    scores: Scores | None = None
    prompt_scores: Scores | None = None  # comes with the first piece of its choice
    vector: Vector | None = None  # with the last


class Progress(_Entry, frozen=True, tag=4):
    """Pieces that came together."""

    at: float
    pieces: tuple[LoggedPiece, ...]


class Fault(_Entry, frozen=True):
    """The error that an answer ended in, as clients see it."""

    status: int
    message: str
    type: str
    param: str | None
    code: str | None
    retry_after_s: int | None


class End(_Entry, frozen=True, tag=5):
    """Nothing more will come."""

    at: float
    fault: Fault | None = None


class Gone(_Entry, frozen=True, tag=6):
    """A client had it cancelled and forgotten."""


Entry = Record | Claim | Started | Progress | End | Gone

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode
_decode_owner = msgspec.msgpack.Decoder(Owner).decode


class Placed(NamedTuple):
    """An entry as it is in the log."""

    place: Place
    entry: Entry


class Unreadable(ValueError):
    """Bytes that are no entry of this release."""


def announcement_of(announced: Announced) -> Announcement:
    """How a choice was announced. Raises Unreadable where that was by another release."""
    try:
        generate, track = protocol.decode(announced.generate), protocol.decode(announced.track)
    except protocol.ProtocolError as error:
        raise Unreadable(str(error)) from error
    if not isinstance(generate, protocol.Generate) or not isinstance(track, protocol.Track):
        raise Unreadable("the record of a request has another message in its place")
    return Announcement(generate, track)


def encode(entry: Entry | Owner) -> bytes:
    return _encode(entry)


def decode(data: bytes) -> Entry:
    """Inverse of :func:`encode`. Raises Unreadable."""
    try:
        return _decode(data)
    except UNDECODABLE as error:
        raise Unreadable(str(error)) from error


def decode_owner(data: bytes) -> Owner:
    """Inverse of :func:`encode`. Raises Unreadable."""
    try:
        return _decode_owner(data)
    except UNDECODABLE as error:
        raise Unreadable(str(error)) from error


def announced(choice: Choice) -> Announced:
    """How a choice was announced, as the log keeps it."""
    if choice.request is None:
        raise ValueError("a choice that was not announced cannot be kept")
    generate, track = choice.request
    return Announced(
        choice.id,
        choice.prompt,
        choice.prompt_tokens,
        protocol.encode(generate),
        protocol.encode(track),
        track.context,
    )


def logged(piece: Piece) -> LoggedPiece:
    """A piece as the log keeps it."""
    choice = piece.choice
    is_first = piece.completion_tokens == len(piece.tokens)
    is_last = piece.finish is not Finish.NONE
    return LoggedPiece(
        choice=choice.index,
        text=piece.text,
        tokens=columns.int32(piece.tokens),
        finish=piece.finish,
        matched=choice.matched if is_last else None,
        completion_tokens=piece.completion_tokens,
        forced_tokens=piece.forced_tokens,
        cached_tokens=choice.cached_tokens,
        scores=piece.scores,
        prompt_scores=choice.prompt_scores if is_first else None,
        vector=choice.vector if is_last else None,
    )


def size_of(entry: Progress) -> int:
    """About how many bytes it takes."""
    return 16 + sum(map(_size_of, entry.pieces))


def _size_of(piece: LoggedPiece) -> int:
    scores = size_of_scores(piece.scores) + size_of_scores(piece.prompt_scores)
    vector = 0 if piece.vector is None else len(piece.vector.values)
    return 32 + 2 * len(piece.text) + len(piece.tokens) + scores + vector


_ANSWER_ID = re.compile(ANSWER_PREFIX + "(?P<id>[0-9a-f]{16})")
_EVENT_ID = re.compile(f"(?P<answer>{ANSWER_PREFIX}[0-9a-f]{{16}}):(?P<ordinal>[0-9]{{1,12}})")


class EventId(NamedTuple):
    """The id of one event: of which answer, and the how manieth from 1."""

    answer_id: str
    ordinal: int

    def __str__(self) -> str:
        return f"{self.answer_id}:{self.ordinal}"


def parse_answer_id(text: str) -> int | None:
    """The number in the id of an answer, None where it is none."""
    found = _ANSWER_ID.fullmatch(text)
    return None if found is None else int(found["id"], 16)


def parse_event_id(text: str) -> EventId | None:
    """None where the text is no id of an event."""
    found = _EVENT_ID.fullmatch(text)
    return None if found is None else EventId(found["answer"], int(found["ordinal"]))
