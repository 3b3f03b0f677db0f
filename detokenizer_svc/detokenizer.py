"""Tokens to text: a fold over two logs, the requests to track and the steps of the worker.

Owns the text state of every tracked request: which tokens it has and what they scored, the half character and the
possible stop string it holds back. The same log always gives the same rows, so that a restarted process repeats
what its predecessor sent and readers drop it by (request id, token index). Knows nothing of streams,
clocks, scheduling or KV.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from detokenizer_svc.stop import StopMatcher
from shared import columns
from shared.cursors import START
from shared.protocol import Finish, Opened, Restated, Scores, Step, Texts, Track, Vector
from shared.scores import GrowingScores
from shared.text_stream import TextStream

_REMEMBERED = 1_000_000  # tokens of requests that ended: some 10 MB
_ENDED_TOKENS = 100  # what one of them weighs besides its tokens, in these
_TOKEN_BYTES = 10  # what a token weighs

OpenStream = Callable[[Sequence[int], bool], TextStream]
"""(the last prompt ids, skip special tokens) -> the stream of what follows."""


class Output(NamedTuple):
    """What a batch of log entries amounts to."""

    texts: dict[str, Texts]  # by the front door replica that holds the connections
    aborts: list[int]  # requests that a stop string ended while the worker went on
    restate: list[int]  # requests some of whose tokens never came
    tokens: int
    stop_matches: int


class _Piece(NamedTuple):
    """Text of some tokens, and the end of the request where they bring it."""

    text: str
    consumed: int  # tokens that count, the one that ended it included
    finish: Finish
    matched: str | int | None


class _Ahead(NamedTuple):
    """A row of a step that came before what it follows: tokens, or scores of its own or earlier ones."""

    first: int
    tokens: list[int]
    forced: bytes
    finish: Finish


@dataclass(slots=True)
class _Request:
    track: Track
    stream: TextStream
    matcher: StopMatcher | None
    announced: str  # entry id of its Track
    since: str  # the last step folded before it was tracked
    tokens: array[int] = field(default_factory=lambda: array("i"))  # taken so far
    forced: int = 0  # of these, that a grammar left no choice about
    texts: list[str] = field(default_factory=list[str])  # sent so far
    characters: int = 0  # in these
    finish: Finish = Finish.NONE
    matched: str | int | None = None
    ahead: list[_Ahead] = field(default_factory=list[_Ahead])
    asked: bool = False  # the scheduler for the tokens before those ahead, or for all
    scores: GrowingScores | None = None  # where the request wants any
    vector: Vector | None = None

    def lacks(self, tokens: int, finish: Finish) -> bool:
        """With so many tokens, should something else be known: their scores, or the prompt's vector?"""
        if self.scores is not None and self.scores.end < self.track.prompt_len + tokens:
            return True
        return self.track.wants_vector and self.vector is None and finish in (Finish.STOP, Finish.LENGTH)

    def scored(self, first: int, end: int) -> Scores | None:
        """What tokens ``first`` to before ``end`` scored; with those from 0 on the prompt's."""
        if self.scores is None:
            return None
        prompt_len = self.track.prompt_len
        return self.scores.part(prompt_len + first if first else 0, prompt_len + end)

    @property
    def weight(self) -> int:
        """About what it takes, in tokens."""
        scores = 0 if self.scores is None else self.scores.nbytes
        vector = 0 if self.vector is None else len(self.vector.values)
        return _ENDED_TOKENS + len(self.tokens) + (scores + vector) // _TOKEN_BYTES

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


def _matcher(track: Track) -> StopMatcher | None:
    if not track.stop and not track.stop_regex:
        return None
    return StopMatcher(track.stop, track.stop_regex, include_stop=track.include_stop)


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
        self._offsets: list[int] = []
        self._forced: list[int] = []
        self._scores: list[Scores] = []
        self._vectors: list[Vector] = []

    def add(self, request: _Request, first: int, tokens: Sequence[int], offset: int, text: str) -> None:
        """Tokens from index ``first`` and text from ``offset`` on, which bring the request to where it is."""
        self._ids.append(request.track.id)
        self._firsts.append(first)
        self._counts.append(len(tokens))
        self._tokens += tokens
        self._texts.append(text)
        self._finishes.append(request.finish)
        self._matched.append(request.matched)
        self._offsets.append(offset)
        self._forced.append(request.forced)
        if (scores := request.scored(first, first + len(tokens))) is not None:
            self._scores.append(scores)
        if request.vector is not None and request.finish is not Finish.NONE:
            self._vectors.append(request.vector)

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
            scores=tuple(self._scores),
            vectors=tuple(self._vectors),
        )


class Detokenizer:
    """All tracked requests. Feed it log entries in order, then ``take`` what they amount to.

    A row of output covers the new tokens of one row of one Step, whatever batch it is taken in; or, for who asks
    again, all tokens. Requests that ended are remembered for a while, so that they can be sent again too.
    """

    def __init__(self, open_stream: OpenStream, *, remembered: int = _REMEMBERED) -> None:
        self._open_stream = open_stream
        self._remembered = remembered  # tokens of requests that ended
        self._requests: dict[int, _Request] = {}  # in the order of their Tracks
        self._epoch = 0
        self._fenced = False  # whether an Opened was seen, or the log was trimmed past it
        self._last_step = START
        self._rows: dict[str, _Rows] = {}
        self._aborts: list[int] = []
        self._restate: list[int] = []
        self._overdue: set[int] = set()
        self._ended: dict[int, _Request] = {}  # oldest first
        self._ended_tokens = 0
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
        """Follow a request from its first token. Told again, it changes who gets the text, from its start if asked."""
        known = self._requests.get(track.id) or self._ended.get(track.id)
        if known is not None:
            known.track = track
            if track.again:
                self._send_all(known)
            return
        request = self._requests[track.id] = _Request(
            track=track,
            stream=self._open_stream(columns.as_int32(track.context).tolist(), track.skip_special_tokens),
            matcher=_matcher(track),
            announced=entry_id,
            since=self._last_step,
            scores=GrowingScores(track.id, track.scored_from) if track.scored_from else None,
        )
        if track.again:
            self._ask(request)

    def untrack(self, request_id: int) -> None:
        """Forget a request; unknown ones are no error."""
        self._requests.pop(request_id, None)

    def remind(self) -> None:
        """Ask again for what has been awaited since the last reminder: the question or its answer may be lost."""
        waiting = {id for id, request in self._requests.items() if request.asked}
        self._restate += waiting & self._overdue
        self._overdue = waiting

    def on_opened(self, opened: Opened, entry_id: str) -> None:
        """From here on only steps of this epoch count."""
        self._epoch, self._fenced = opened.epoch, True
        self._last_step = entry_id
        for request in self._requests.values():
            request.ahead.clear()  # it goes on from what the scheduler knows: these come again
            if request.scores is not None:
                request.scores.forget_ahead()

    def on_step(self, step: Step, entry_id: str) -> None:
        """Turn a step's new tokens into text rows; drop a stale epoch and tokens already taken."""
        self._last_step = entry_id
        if not self._fenced:  # the fence itself was trimmed away: epochs only grow
            self._epoch = max(self._epoch, step.epoch)
        if step.epoch != self._epoch:
            return
        self._take_scores(step.scores, step.vectors)
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

    def on_restated(self, restated: Restated, entry_id: str) -> None:
        """Take what the scheduler knows of a request, then what came ahead of it. Counts in any epoch."""
        self._last_step = entry_id
        request = self._requests.get(restated.id)
        if request is None:
            return
        request.asked = False
        self._take_scores(filter(None, (restated.scores,)), filter(None, (restated.vector,)))
        ahead, request.ahead = request.ahead, []
        self._row(request, 0, columns.ints(restated.tokens), b"", Finish(restated.finish))
        for row in ahead:
            if restated.id in self._requests:
                self._row(request, *row)

    def take(self) -> Output:
        """The rows, aborts and questions since the last call."""
        texts = {replica: rows.packed() for replica, rows in self._rows.items()}
        output = Output(texts, self._aborts, self._restate, self._tokens, self._stop_matches)
        self._rows, self._aborts, self._restate = {}, [], []
        self._tokens = self._stop_matches = 0
        return output

    def _row(self, request: _Request, first: int, tokens: list[int], forced: bytes, finish: Finish) -> None:
        have = len(request.tokens)
        if first > have or request.lacks(first + len(tokens), finish):
            request.ahead.append(_Ahead(first, tokens, forced, finish))
            self._ask(request)
            return
        request.asked = bool(request.ahead)
        new = tokens[have - first :]
        if not new and finish is Finish.NONE:
            return
        piece = request.advance(new, finish)
        taken = new[: piece.consumed]
        request.tokens.extend(taken)
        request.forced += sum(forced[have - first :][: piece.consumed])
        request.finish, request.matched = piece.finish, piece.matched
        self._rows_to(request).add(request, have, taken, request.characters, piece.text)
        request.texts.append(piece.text)
        request.characters += len(piece.text)
        self._tokens += piece.consumed
        if piece.finish is Finish.NONE:
            return
        self._end(request)
        if isinstance(piece.matched, str):
            self._stop_matches += 1
            if finish is Finish.NONE:
                self._aborts.append(request.track.id)

    def _take_scores(self, scores: Iterable[Scores], vectors: Iterable[Vector]) -> None:
        for each in scores:
            request = self._requests.get(each.id)
            if request is not None and request.scores is not None and not request.scores.add(each):
                self._ask(request)
        for vector in vectors:
            if (request := self._requests.get(vector.id)) is not None:
                request.vector = vector

    def _rows_to(self, request: _Request) -> _Rows:
        return self._rows.setdefault(request.track.reply_to, _Rows())

    def _send_all(self, request: _Request) -> None:
        if not request.tokens and request.finish is Finish.NONE:
            return
        request.texts = ["".join(request.texts)]
        self._rows_to(request).add(request, 0, request.tokens, 0, request.texts[0])

    def _ask(self, request: _Request) -> None:
        if not request.asked:
            request.asked = True
            self._restate.append(request.track.id)

    def _end(self, request: _Request) -> None:
        """Move a request to those remembered, and forget the oldest of these beyond the bound."""
        id = request.track.id
        self.untrack(id)
        request.texts = ["".join(request.texts)]
        self._ended[id] = request
        self._ended_tokens += request.weight
        while self._ended_tokens > self._remembered and len(self._ended) > 1:
            self._ended_tokens -= self._ended.pop(next(iter(self._ended))).weight
