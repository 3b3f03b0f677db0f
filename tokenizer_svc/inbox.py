"""Who waits for which message: takes what arrives on the texts stream to the answers it concerns.

Knows nothing of streams or HTTP.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from typing import NamedTuple

from shared import columns
from shared.protocol import Aborted, Admitted, Failed, Finish, Flushed, Message, Paused, Scores, Texts
from tokenizer_svc.answers import Answer, Choice, Row
from tokenizer_svc.backlog import Waiting


class _Expected(NamedTuple):
    answer: Answer
    choice: Choice


class FollowUp(NamedTuple):
    """What is left to say after a message."""

    aborts: tuple[int, ...] = ()  # siblings of an aborted choice
    untracks: tuple[tuple[str, int], ...] = ()  # (detokenizer, id): ended without its knowledge
    lacking: tuple[Choice, ...] = ()  # whose text came without what goes before it


class _Queues:
    """Scores of a message: the next of each request are those of its next row."""

    def __init__(self, scores: Sequence[Scores]) -> None:
        self._left: dict[int, deque[Scores]] = {}
        for each in scores:
            self._left.setdefault(each.id, deque()).append(each)

    def next(self, id: int) -> Scores | None:
        left = self._left.get(id)
        return left.popleft() if left else None


class Inbox:
    """All answers under way in this process."""

    def __init__(self) -> None:
        self._expected: dict[int, _Expected] = {}
        self._asked: dict[int, asyncio.Future[Flushed | Paused]] = {}
        self.load: Counter[str] = Counter()  # choices under way by detokenizer
        self.waiting = Waiting()  # choices that have not started
        self.served = 0  # choices that have finished

    def __len__(self) -> int:
        return len(self._expected)

    def expect(self, answer: Answer) -> None:
        """Take messages for this answer from now on."""
        for choice in answer.choices:
            self._expected[choice.id] = _Expected(answer, choice)
            self.waiting.add(choice.id, choice.request.generate.tenant if choice.request else "")
        self.load[answer.detokenizer] += len(answer.choices)

    def forget(self, answer: Answer) -> list[int]:
        """Take no more messages for this answer; returns the ids still under way."""
        waiting = [choice.id for choice in answer.choices if self._expected.pop(choice.id, None)]
        self.load[answer.detokenizer] -= len(waiting)
        for id in waiting:
            self.waiting.discard(id)
        return waiting

    def expect_reply(self, nonce: int) -> asyncio.Future[Flushed | Paused]:
        """The answer to Flush, Pause or Resume, when it comes."""
        future = asyncio.get_running_loop().create_future()
        self._asked[nonce] = future
        future.add_done_callback(lambda _: self._asked.pop(nonce, None))
        return future

    def move(self, answer: Answer, detokenizer: str) -> None:
        """Another process turns the rest of an answer into text."""
        count = sum(choice.id in self._expected for choice in answer.choices)
        self.load[answer.detokenizer] -= count
        self.load[detokenizer] += count
        answer.detokenizer = detokenizer

    def answer_of(self, id: int) -> Answer | None:
        """The answer that a choice under way belongs to."""
        expected = self._expected.get(id)
        return None if expected is None else expected.answer

    def choices(self) -> list[Choice]:
        """All choices under way."""
        return [expected.choice for expected in self._expected.values()]

    def answers(self) -> set[Answer]:
        return {expected.answer for expected in self._expected.values()}

    def take(self, message: Message, written: float = 0.0) -> FollowUp:
        """Dispatch one message, ``written`` at these unix seconds, to the answers it concerns."""
        match message:
            case Texts():
                return self._texts(message, written)
            case Admitted(ids, cached):
                for id, tokens in zip(columns.as_uint64(ids).tolist(), columns.as_int32(cached).tolist(), strict=True):
                    if expected := self._expected.get(id):
                        self.waiting.discard(id)
                        expected.answer.admitted(expected.choice, tokens)
                        expected.choice.times.admitted = expected.choice.times.admitted or written
            case Aborted(id, why):
                return self._aborted(id, why)
            case Failed(id):
                if expected := self._expected.get(id):
                    self._done(id, expected.answer)
                    expected.answer.fail(message)
                    return FollowUp(untracks=((expected.answer.detokenizer, id),))
            case Flushed(nonce) | Paused(nonce):
                if (future := self._asked.get(nonce)) and not future.done():
                    future.set_result(message)
            case _:
                pass
        return FollowUp()

    def _texts(self, message: Texts, written: float) -> FollowUp:
        rows = zip(
            columns.as_uint64(message.ids).tolist(),
            columns.as_int32(message.firsts).tolist(),
            columns.as_int32(message.counts).tolist(),
            columns.as_int32(message.offsets).tolist(),
            message.texts,
            message.finishes,
            message.matched,
            columns.as_int32(message.forced).tolist() or [0] * len(message.texts),
            strict=True,
        )
        tokens = columns.as_int32(message.tokens).tolist()
        scores = _Queues(message.scores)
        vectors = {vector.id: vector for vector in message.vectors}
        lacking: set[Choice] = set()
        end = 0
        for id, first, count, offset, text, finish, matched, forced in rows:
            start, end = end, end + count
            expected = self._expected.get(id)
            if expected is None:
                continue
            answer, choice = expected
            if choice.finish is not Finish.NONE:
                continue  # it was ended here, and the scheduler is yet to be told
            row = Row(
                first,
                tokens[start:end],
                offset,
                text,
                Finish(finish),
                matched,
                forced,
                scores.next(id),
                vectors.get(id),
            )
            if count or finish:
                choice.times.tokens(message.stepped, written)
            if not answer.advance(choice, row):
                lacking.add(choice)
            elif choice.finish is not Finish.NONE:
                self._done(id, answer)
                self.served += 1
        return FollowUp(lacking=tuple(lacking))

    def _aborted(self, id: int, why: str) -> FollowUp:
        expected = self._expected.get(id)
        if expected is None:
            return FollowUp()
        answer, choice = expected
        ended = answer.unfinished if answer.shares_id else [choice]
        for sibling in ended:
            answer.aborted(sibling, why)
            self._done(sibling.id, answer)
        return FollowUp(
            aborts=tuple(sibling.id for sibling in ended if sibling.id != id),
            untracks=tuple((answer.detokenizer, sibling.id) for sibling in ended),
        )

    def _done(self, id: int, answer: Answer) -> None:
        if self._expected.pop(id, None):
            self.waiting.discard(id)
            self.load[answer.detokenizer] -= 1
