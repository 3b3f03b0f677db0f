"""Tokens to text: a fold over two logs, the requests to track and the steps of the worker.

Owns the text state of every tracked request: which tokens it has, the half character and the possible
stop string it holds back. The same log always gives the same rows, so that a restarted process repeats
what its predecessor sent and readers drop it by (request id, token index). Knows nothing of streams,
clocks, scheduling or KV.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from detokenizer_svc.stop import StopMatcher
from shared import columns
from shared.cursors import START
from shared.protocol import Failed, Failure, Finish, Opened, Step, Texts, Track
from shared.text_stream import TextStream

OpenStream = Callable[[Sequence[int], bool], TextStream]
"""(the last prompt ids, skip special tokens) -> the stream of what follows."""


class Output(NamedTuple):
    """What a batch of log entries amounts to."""

    texts: dict[str, Texts]  # by the front door replica that holds the connections
    aborts: list[int]  # requests that a stop string ended while the worker went on
    failed: list[tuple[str, Failed]]  # (front door replica, failure)
    tokens: int
    stop_matches: int


class _Piece(NamedTuple):
    """Text of some tokens, and the end of the request where they bring it."""

    text: str
    consumed: int  # tokens that count, the one that ended it included
    finish: Finish
    matched: str | int | None


@dataclass(slots=True)
class _Request:
    track: Track
    stream: TextStream
    matcher: StopMatcher | None
    announced: str  # entry id of its Track
    since: str  # the last step folded before it was tracked
    tokens: int = 0  # taken so far
    characters: int = 0  # sent so far

    def advance(self, tokens: Sequence[int], finish: Finish) -> _Piece:
        """Take new tokens, and the finish code the worker gave with the last of them."""
        hidden = finish is Finish.STOP and bool(tokens) and tokens[-1] in self.track.stop_token_ids
        parts: list[str] = []
        for consumed, token in enumerate(tokens[:-1] if hidden else tokens, start=1):
            text, stop = self._shown(self.stream.push(token))
            parts.append(text)
            if stop is not None:
                return _Piece("".join(parts), consumed, Finish.STOP, stop)
        if finish is not Finish.NONE:
            text, stop = self._shown(self.stream.flush())
            parts.append(text)
            if stop is not None:
                return _Piece("".join(parts), len(tokens), Finish.STOP, stop)
            if self.matcher is not None:
                parts.append(self.matcher.flush())
        return _Piece("".join(parts), len(tokens), finish, tokens[-1] if hidden else None)

    def _shown(self, text: str) -> tuple[str, str | None]:
        return (text, None) if self.matcher is None else self.matcher.push(text)


class _Rows:
    """Rows of one Texts message while it is put together."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._firsts: list[int] = []
        self._counts: list[int] = []
        self._tokens: list[int] = []
        self._texts: list[str] = []
        self._finishes: list[int] = []
        self._matched: list[str | int | None] = []
        self._forced: list[int] = []
        self._offsets: list[int] = []

    def add(self, request: _Request, tokens: Sequence[int], forced: bytes, piece: _Piece) -> None:
        """``forced`` has a flag per token, or is empty where none is."""
        self._ids.append(request.track.id)
        self._firsts.append(request.tokens)
        self._offsets.append(request.characters)
        self._counts.append(piece.consumed)
        self._tokens += tokens[: piece.consumed]
        self._texts.append(piece.text)
        self._finishes.append(piece.finish)
        self._matched.append(piece.matched)
        self._forced.append(sum(forced[: piece.consumed]))

    def packed(self) -> Texts:
        return Texts(
            ids=columns.uint64(self._ids),
            firsts=columns.int32(self._firsts),
            counts=columns.int32(self._counts),
            tokens=columns.int32(self._tokens),
            texts=tuple(self._texts),
            finishes=columns.uint8(self._finishes),
            matched=tuple(self._matched),
            offsets=columns.int32(self._offsets),
            forced=columns.int32(self._forced) if any(self._forced) else b"",
        )


class Detokenizer:
    """All tracked requests. Feed it log entries in order, then ``take`` what they amount to.

    A row of output covers the new tokens of one row of one Step, whatever batch it is taken in: rows of
    several steps are never merged, as a reader that has half of a merged row could not cut its text.
    """

    def __init__(self, open_stream: OpenStream) -> None:
        self._open_stream = open_stream
        self._requests: dict[int, _Request] = {}  # in the order of their Tracks
        self._epoch = 0
        self._fenced = False  # whether an Opened was seen, or the log was trimmed past it
        self._last_step = START
        self._rows: dict[str, _Rows] = {}
        self._aborts: list[int] = []
        self._failed: list[tuple[str, Failed]] = []
        self._tokens = 0
        self._stop_matches = 0

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def oldest_track(self) -> str | None:
        """Entry id of the oldest Track still needed, None where nothing is tracked."""
        return next((request.announced for request in self._requests.values()), None)

    @property
    def watermark(self) -> str:
        """The oldest entry of the step log needed to build this state again."""
        return next((request.since for request in self._requests.values()), self._last_step)

    def tracked(self) -> list[int]:
        """Ids of the tracked requests, oldest first."""
        return list(self._requests)

    def track(self, track: Track, entry_id: str) -> None:
        """Follow a request from its first token. Told again, it only changes who gets the text."""
        known = self._requests.get(track.id)
        if known is not None:
            known.track = track
            return
        self._requests[track.id] = _Request(
            track=track,
            stream=self._open_stream(columns.as_int32(track.context).tolist(), track.skip_special_tokens),
            matcher=StopMatcher(track.stop, include_stop=track.include_stop) if track.stop else None,
            announced=entry_id,
            since=self._last_step,
        )

    def untrack(self, request_id: int) -> None:
        """Forget a request; unknown ones are no error."""
        self._requests.pop(request_id, None)

    def on_opened(self, opened: Opened, entry_id: str) -> None:
        """From here on only steps of this epoch count."""
        self._epoch, self._fenced = opened.epoch, True
        self._last_step = entry_id

    def on_step(self, step: Step, entry_id: str) -> None:
        """Turn a step's new tokens into text rows; drop a stale epoch and tokens already taken."""
        self._last_step = entry_id
        if not self._fenced:  # the fence itself was trimmed away: epochs only grow
            self._epoch = max(self._epoch, step.epoch)
        if step.epoch != self._epoch:
            return
        tokens = columns.as_int32(step.tokens).tolist()
        start = 0
        for request_id, first, count, finish in zip(
            columns.as_uint64(step.ids).tolist(),
            columns.as_int32(step.firsts).tolist(),
            columns.as_int32(step.counts).tolist(),
            step.finishes,
            strict=True,
        ):
            request = self._requests.get(request_id)
            if request is not None:
                self._row(
                    request, first, tokens[start : start + count], step.forced[start : start + count], Finish(finish)
                )
            start += count
        for request_id, _ in step.errors:  # the scheduler tells the front door
            self.untrack(request_id)

    def take(self) -> Output:
        """The rows, aborts and failures since the last call."""
        texts = {replica: rows.packed() for replica, rows in self._rows.items()}
        output = Output(texts, self._aborts, self._failed, self._tokens, self._stop_matches)
        self._rows, self._aborts, self._failed = {}, [], []
        self._tokens = self._stop_matches = 0
        return output

    def _row(self, request: _Request, first: int, tokens: list[int], forced: bytes, finish: Finish) -> None:
        if first > request.tokens:
            self._lost(request, first)
            return
        known = request.tokens - first
        new = tokens[known:]
        if not new and finish is Finish.NONE:
            return
        track = request.track
        piece = request.advance(new, finish)
        self._rows.setdefault(track.reply_to, _Rows()).add(request, new, forced[known:], piece)
        request.tokens += piece.consumed
        request.characters += len(piece.text)
        self._tokens += piece.consumed
        if piece.finish is Finish.NONE:
            return
        self.untrack(track.id)
        if isinstance(piece.matched, str):
            self._stop_matches += 1
            if finish is Finish.NONE:
                self._aborts.append(track.id)

    def _lost(self, request: _Request, first: int) -> None:
        """Tokens are missing from the log: the request cannot go on, and must not vanish."""
        track = request.track
        message = f"tokens {request.tokens} to {first - 1} of this request are no longer in the log; send it again"
        self._failed.append((track.reply_to, Failed(id=track.id, failure=Failure.UNAVAILABLE, message=message)))
        self._aborts.append(track.id)
        self.untrack(track.id)
