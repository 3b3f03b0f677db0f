"""What the entries of a log amount to: the answer so far, its events, its whole.

A pure fold: the same entries give the same bytes, in whatever process and however often. Knows nothing of
streams or HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable

from shared import columns
from shared.protocol import Finish
from tokenizer_svc.announcements import Announcement
from tokenizer_svc.answers import Answer, Choice, Piece
from tokenizer_svc.api_error import ApiError
from tokenizer_svc.rendering import Rendering, whole_from
from tokenizer_svc.resumable.entries import (
    Announced,
    Claim,
    End,
    Entry,
    Fault,
    Gone,
    LoggedPiece,
    Progress,
    Record,
    Started,
    Unreadable,
    announcement_of,
)
from tokenizer_svc.sse import split


class Fold:
    """An answer as of the entries taken."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.owner = record.owner
        self.detokenizer = record.detokenizer
        choices = [
            Choice(
                each.id, index, each.prompt, each.prompt_tokens, _announcement(each), context=columns.ints(each.context)
            )
            for index, each in enumerate(record.sequences)
        ]
        self.answer = Answer(choices, record.detokenizer, shares_id=record.shares_id)
        self.at = record.arrived  # when the last entry was written
        self.is_started = False
        self.ended: End | Gone | None = None

    def take(self, entry: Entry) -> list[Piece]:
        """The pieces of the next entry."""
        match entry:
            case Claim():
                self.owner, self.detokenizer = entry.owner, entry.detokenizer
            case Started():
                self.at, self.is_started = entry.at, True
            case Progress():
                self.at = entry.at
                return [self._piece(piece) for piece in entry.pieces]
            case End():
                self.at, self.ended = entry.at, entry
            case Gone():
                self.ended = entry
            case Record():
                pass
        return []

    def elapsed(self) -> float:
        """Seconds from the request's arrival to the last entry."""
        return self.at - self.record.arrived

    def _piece(self, logged: LoggedPiece) -> Piece:
        choice = self.answer.choices[logged.choice]
        choice.completion_tokens = logged.completion_tokens
        choice.forced_tokens = logged.forced_tokens
        choice.cached_tokens = logged.cached_tokens
        choice.finish = Finish(logged.finish)
        choice.matched = logged.matched
        choice.characters += len(logged.text)
        choice.prompt_scores = logged.prompt_scores or choice.prompt_scores
        choice.vector = logged.vector or choice.vector
        tokens = columns.as_int32(logged.tokens).tolist()
        return Piece(
            choice, logged.text, tokens, choice.finish, choice.completion_tokens, choice.forced_tokens, logged.scores
        )


def _announcement(announced: Announced) -> Announcement | None:
    """How a choice was announced; None where only another release can say."""
    try:
        return announcement_of(announced)
    except Unreadable:
        return None


def folded(record: Record, entries: Iterable[Entry]) -> Fold:
    """The answer as of these entries."""
    fold = Fold(record)
    for entry in entries:
        fold.take(entry)
    return fold


def events_of(fold: Fold, rendering: Rendering, entry: Entry) -> list[bytes]:
    """The events that the next entry of a stream's log adds."""
    was_started = fold.is_started
    pieces = fold.take(entry)
    match entry:
        case Record() if rendering.waiting is not None:
            return split(rendering.waiting())
        case Started() if not was_started:
            return split(rendering.opening())
        case Progress():
            return split(b"".join([rendering.piece(piece) for piece in pieces]))
        case End(fault=None):
            return split(rendering.closing())
        case End(fault=Fault() as fault) if was_started or rendering.waiting is not None:
            return split(rendering.failing(error_of(fault)))
        case _:
            return []


def whole_of(fold: Fold, rendering: Rendering, entries: Iterable[Entry]) -> bytes:
    """The body of a complete answer that is no stream."""
    return whole_from(fold.answer, rendering, [piece for entry in entries for piece in fold.take(entry)])


def error_of(fault: Fault) -> ApiError:
    """The error as it is raised."""
    return ApiError(
        fault.status,
        fault.message,
        type=fault.type,
        param=fault.param,
        code=fault.code,
        retry_after_s=fault.retry_after_s,
    )


def fault_of(error: ApiError) -> Fault:
    """The error as the log keeps it."""
    body = error.body
    retry = error.headers.get("Retry-After")
    return Fault(error.status, body.message, body.type, body.param, body.code, None if retry is None else int(retry))
