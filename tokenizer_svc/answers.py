"""What comes back for one HTTP request: one or more choices, each a sequence of pieces of text.

Drops what it already has by token index and character offset, and notices gaps. Knows nothing of HTTP, streams
or clocks; the one who waits and the one who fills share an event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from shared.protocol import Failed, Failure, Finish, Scores, Vector
from shared.scores import joined, part, size_of
from tokenizer_svc.announcements import Announcement
from tokenizer_svc.times import Times

_MERGE_FROM = 64  # pieces that wait for their client
_TOKEN_BYTES = 8


class BadGrammar(NamedTuple):
    """What an answer should look like cannot be had."""

    param: str  # the field that asked for it
    message: str


class Piece(NamedTuple):
    """Some tokens of one choice. Text may lag behind its tokens."""

    choice: Choice
    text: str
    tokens: Sequence[int]
    finish: Finish
    completion_tokens: int  # of the choice, up to and with this piece
    forced_tokens: int  # likewise: of these, that a grammar left no choice about
    scores: Scores | None = None  # of exactly these tokens, where there are some and the request wants any


class Row(NamedTuple):
    """Tokens ``first``, … of a choice and its text from character ``offset`` on."""

    first: int
    tokens: Sequence[int]
    offset: int
    text: str
    finish: Finish
    matched: str | int | None
    forced: int  # of the choice's tokens up to the end of this row, by a grammar
    scores: Scores | None = None  # of these tokens; with the first of them also of the prompt's
    vector: Vector | None = None


class Choice:
    """One generated sequence: its own request to the scheduler."""

    __slots__ = (
        "admitted",
        "cached_tokens",
        "characters",
        "completion_tokens",
        "context",
        "finish",
        "forced_tokens",
        "id",
        "index",
        "matched",
        "prompt",
        "prompt_scores",
        "prompt_tokens",
        "request",
        "times",
        "vector",
    )

    def __init__(
        self,
        id: int,
        index: int,
        prompt: int,
        prompt_tokens: int,
        request: Announcement | None = None,
        context: Sequence[int] = (),
    ) -> None:
        self.id = id
        self.index = index  # among the choices of its HTTP request
        self.prompt = prompt  # which prompt of the HTTP request it continues
        self.prompt_tokens = prompt_tokens
        self.context = context  # the last few ids of its prompt
        self.request = request  # how it is announced, and announced again where something got lost
        self.times = Times()
        self.admitted = False
        self.cached_tokens = 0
        self.completion_tokens = 0
        self.characters = 0  # of text
        self.forced_tokens = 0
        self.finish = Finish.NONE
        self.matched: str | int | None = None  # what stopped it, or why it was aborted
        self.prompt_scores: Scores | None = None  # from `Scoring.start` on; there before its first piece, if wanted
        self.vector: Vector | None = None  # there before its last piece, if wanted


class Answer:
    """All choices of one HTTP request, and the pieces not yet sent to its client."""

    def __init__(self, choices: Sequence[Choice], detokenizer: str, *, shares_id: bool = True) -> None:
        """``shares_id``: clients know all choices by the id of the first, so that to abort one is to abort all."""
        self.choices = tuple(choices)
        self.detokenizer = detokenizer
        self.shares_id = shares_id
        self.failed: Failed | BadGrammar | None = None
        self._undecided = 0  # grammars of which nobody knows yet whether they can be used
        self._pieces: list[Piece] = []
        self.unsent = 0  # about how many bytes the pieces take
        self._merge_at = _MERGE_FROM
        self._started = False
        self._news = asyncio.Event()

    @property
    def id(self) -> int:
        return self.choices[0].id

    @property
    def unfinished(self) -> list[Choice]:
        return [choice for choice in self.choices if choice.finish is Finish.NONE]

    @property
    def is_over(self) -> bool:
        """Nothing more will come."""
        return self.failed is not None or not self.unfinished

    # --- told while its grammars are compiled

    def awaits(self, grammars: int) -> None:
        """So many grammars are being compiled: :meth:`started` waits for the verdict on each."""
        self._undecided = grammars

    def decided(self, failure: Failed | BadGrammar | None) -> None:
        """One of the grammars can be used, or not."""
        self._undecided -= 1
        if failure is not None:
            self.fail(failure)
        self._news.set()

    # --- filled by the dispatch of the texts stream

    def admitted(self, choice: Choice, cached_tokens: int) -> None:
        """The scheduler started a choice (again, after a preemption: the first count stands)."""
        if not choice.admitted:
            choice.admitted = True
            choice.cached_tokens = cached_tokens
        self._tell()

    def advance(self, choice: Choice, row: Row) -> bool:
        """Take a row of a choice, less what it has. False, and nothing taken, where tokens before it are missing."""
        if choice.finish is not Finish.NONE or self.failed is not None:
            return True
        known = choice.completion_tokens - row.first
        if known < 0:
            return False
        if known > len(row.tokens) or (known == len(row.tokens) and row.finish is Finish.NONE):
            return True
        tokens, text = row.tokens[known:], row.text[choice.characters - row.offset :]
        scores = self._take_scores(choice, row, len(tokens))
        choice.completion_tokens += len(tokens)
        choice.characters += len(text)
        choice.forced_tokens = row.forced
        choice.finish = row.finish
        choice.matched = row.matched
        if text or tokens or row.finish is not Finish.NONE:
            self._pieces.append(
                Piece(choice, text, tokens, row.finish, choice.completion_tokens, choice.forced_tokens, scores)
            )
            self.unsent += len(text) + _TOKEN_BYTES * len(tokens) + size_of(scores)
            if len(self._pieces) >= self._merge_at:
                self._pieces = merged(self._pieces)
                self._merge_at = max(_MERGE_FROM, 2 * len(self._pieces))
            self._tell()
        return True

    def _take_scores(self, choice: Choice, row: Row, count: int) -> Scores | None:
        """Those of a row's ``count`` new tokens; those of the prompt go to the choice."""
        if row.vector is not None:
            choice.vector = row.vector
        if row.scores is None:
            return None
        prompt, at = choice.prompt_tokens, choice.prompt_tokens + choice.completion_tokens
        if choice.prompt_scores is None and row.scores.first < prompt:
            choice.prompt_scores = part(row.scores, 0, prompt)
            self.unsent += size_of(choice.prompt_scores)
        return part(row.scores, at, at + count) if count else None

    def aborted(self, choice: Choice, why: str = "") -> None:
        """The scheduler ended a choice on request; ``why`` is for the client."""
        at = choice.completion_tokens
        self.advance(choice, Row(at, (), choice.characters, "", Finish.ABORT, why or None, choice.forced_tokens))

    def fail(self, failed: Failed | BadGrammar) -> None:
        """The whole answer ends in an error: in the first, but a bad grammar is the cause of any other."""
        if self.failed is None or isinstance(failed, BadGrammar):
            self.failed = failed
        self._tell()

    def _tell(self) -> None:
        self._started = True
        self._news.set()

    # --- drained by the one who writes to the client

    async def started(self) -> None:
        """Wait for the first sign that the request was taken or refused, and for the verdict on its grammars."""
        while not self._is_certain:
            self._news.clear()
            await self._news.wait()

    @property
    def _is_certain(self) -> bool:
        match self.failed:
            case BadGrammar():
                return True
            case Failed(failure=failure) if failure is not Failure.WORKER:
                return True
            case None if all(choice.finish is Finish.ABORT for choice in self.choices):
                return True
            case _:  # a worker may know before us that a grammar is bad, but does not say so in words for the client
                return self._started and not self._undecided

    async def pieces(self) -> list[Piece]:
        """All pieces since the last call, at least one unless the answer is over."""
        while not self._pieces and not self.is_over:
            self._news.clear()
            await self._news.wait()
        pieces, self._pieces, self.unsent = self._pieces, [], 0
        return pieces


def merged(pieces: Iterable[Piece]) -> list[Piece]:
    """One piece for each choice, in the order of their first."""
    by_choice: dict[int, list[Piece]] = {}
    for piece in pieces:
        by_choice.setdefault(piece.choice.index, []).append(piece)
    return [
        each[-1]._replace(
            text="".join([piece.text for piece in each]),
            tokens=[token for piece in each for token in piece.tokens],
            scores=joined(piece.scores for piece in each),
        )
        for each in by_choice.values()
    ]
