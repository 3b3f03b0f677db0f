"""The dispatch of messages to answers, without streams: what repeats is dropped, what lacks is noticed."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from shared import columns
from shared.protocol import Aborted, Admitted, Failed, Failure, Finish, Flushed
from tests.tokenizer_svc.downstream import Row, texts
from tokenizer_svc.answers import Answer, Choice, Piece
from tokenizer_svc.inbox import FollowUp, Inbox


def answer_of(*ids: int, shares_id: bool = True) -> Answer:
    return Answer([Choice(id, index, 0, 5) for index, id in enumerate(ids)], "d", shares_id=shares_id)


def expecting(*answers: Answer) -> Inbox:
    inbox = Inbox()
    for answer in answers:
        inbox.expect(answer)
    return inbox


def drained(answer: Answer) -> list[Piece]:
    async def drain() -> list[Piece]:
        return await asyncio.wait_for(answer.pieces(), 1)

    return asyncio.run(drain())


class Told(NamedTuple):
    """A row of request 7, and where its text begins."""

    row: Row
    offset: int


def rows_of(sizes: list[int], total: int) -> list[Told]:
    """Rows of request 7, of so many tokens each, until there are ``total``; the last one finishes it.

    Two characters a token, but for the third and fourth, which are shown with the fifth.
    """
    rows: list[Told] = []
    first = offset = 0
    for size in [*sizes, total]:
        last = min(first + size, total)
        if last == first:
            break
        finish = Finish.LENGTH if last == total else Finish.NONE
        end = shown(last, total)
        rows.append(Told((7, first, list(range(first, last)), TEXT[offset:end], finish, None), offset))
        first, offset = last, end
    return rows


TEXT = "".join(chr(97 + at // 2 % 26) + str(at % 10) for at in range(0, 200, 2))


def shown(tokens: int, total: int) -> int:
    """How many characters of text are known after so many tokens."""
    return 4 if 2 < tokens < 5 and tokens < total else 2 * tokens


SIZES = st.lists(st.integers(1, 4), max_size=8)


@given(
    total=st.integers(1, 24),
    writers=st.lists(st.tuples(SIZES, st.integers(0, 8), st.integers(0, 8)), max_size=4),
    batch=st.integers(1, 5),
)
@settings(deadline=None)
def test_any_repetition_gives_the_text_once(total: int, writers: list[tuple[list[int], int, int]], batch: int) -> None:
    """Writers begin anywhere and stop anywhere, with rows cut in other places; the last one tells all of it."""
    delivered = [told for sizes, start, end in writers for told in rows_of(sizes, total)[start:end]]
    delivered += rows_of([], total)
    answer = answer_of(7)
    inbox = expecting(answer)
    for start in range(0, len(delivered), batch):
        some = delivered[start : start + batch]
        inbox.take(texts(*(told.row for told in some), offsets=[told.offset for told in some]))
    pieces = drained(answer)
    assert "".join(piece.text for piece in pieces) == TEXT[: 2 * total]
    assert [token for piece in pieces for token in piece.tokens] == list(range(total))
    assert [piece.finish for piece in pieces].count(Finish.LENGTH) == 1
    assert answer.failed is None
    assert len(inbox) == 0


@given(sizes=SIZES, total=st.integers(1, 24), missing=st.integers(0, 9))
@settings(deadline=None)
def test_a_gap_is_noticed_and_nothing_beyond_it_taken(sizes: list[int], total: int, missing: int) -> None:
    rows = rows_of(sizes, total)
    missing %= len(rows)
    answer = answer_of(7)
    inbox = expecting(answer)
    before = rows[missing].row[1]
    for told in rows[:missing]:
        inbox.take(texts(told.row, offsets=[told.offset]))
    for told in rows[missing + 1 :]:
        assert inbox.take(texts(told.row, offsets=[told.offset])).lacking == answer.choices
    assert answer.choices[0].completion_tokens == before
    assert answer.failed is None
    assert not answer.is_over


def test_rows_of_several_requests_find_their_answers() -> None:
    one, two = answer_of(1, 2), answer_of(3)
    inbox = expecting(one, two)
    inbox.take(
        texts(
            (3, 0, [30], "c", Finish.NONE, None),
            (1, 0, [10, 11], "a", Finish.NONE, None),
            (99, 0, [5, 5, 5], "?", Finish.NONE, None),
            (2, 0, [20], "b", Finish.STOP, "x"),
        )
    )
    assert [(p.choice.id, p.text, list(p.tokens)) for p in drained(one)] == [(1, "a", [10, 11]), (2, "b", [20])]
    assert [(p.choice.id, p.text, list(p.tokens)) for p in drained(two)] == [(3, "c", [30])]
    assert one.choices[1].matched == "x"
    assert inbox.load == {"d": 2}


def test_the_first_count_of_cached_tokens_stands() -> None:
    answer = answer_of(1)
    inbox = expecting(answer)
    for cached in (0, 4):  # the second after a preemption, with its own output in the tree
        inbox.take(Admitted(columns.uint64([1, 50]), columns.int32([cached, 3])))
    assert answer.choices[0].cached_tokens == 0


def test_an_aborted_choice_takes_its_siblings_with_it() -> None:
    answer = answer_of(1, 2, 3)
    inbox = expecting(answer)
    inbox.take(texts((2, 0, [5], "", Finish.STOP, None)))
    said = inbox.take(Aborted(1))
    assert (said.aborts, said.untracks) == ((3,), (("d", 1), ("d", 3)))
    assert [choice.finish for choice in answer.choices] == [Finish.ABORT, Finish.STOP, Finish.ABORT]
    assert len(inbox) == 0
    assert inbox.take(Aborted(1)) == FollowUp()


def test_choices_with_ids_of_their_own_are_aborted_alone() -> None:
    answer = answer_of(1, 2, shares_id=False)
    said = expecting(answer).take(Aborted(1))
    assert said.aborts == ()
    assert [choice.finish for choice in answer.choices] == [Finish.ABORT, Finish.NONE]


def test_a_failure_ends_the_answer_but_leaves_its_siblings_to_abort() -> None:
    answer = answer_of(1, 2)
    inbox = expecting(answer)
    failed = Failed(1, Failure.QUEUE_FULL, "full")
    assert inbox.take(failed).untracks == (("d", 1),)
    assert answer.failed == failed
    assert answer.is_over
    assert inbox.forget(answer) == [2]
    assert inbox.forget(answer) == []
    assert inbox.load["d"] == 0


def test_forced_tokens_are_counted_once() -> None:
    answer = answer_of(1, 2)
    inbox = expecting(answer)
    inbox.take(texts((1, 0, [5, 6], "ab", Finish.NONE, None), (2, 0, [7], "c", Finish.NONE, None), forced=[2, 0]))
    inbox.take(texts((1, 0, [5, 6], "ab", Finish.NONE, None), forced=[2]))  # repeated by a restarted detokenizer
    inbox.take(texts((1, 2, [8], "d", Finish.NONE, None), offsets=[2], forced=[2]))
    inbox.take(texts((1, 3, [9, 10, 11], "e", Finish.STOP, None), offsets=[3], forced=[3]))
    assert [choice.forced_tokens for choice in answer.choices] == [3, 0]
    assert [(piece.completion_tokens, piece.forced_tokens) for piece in drained(answer)] == [
        (2, 2),
        (1, 0),
        (3, 2),
        (6, 3),
    ]


async def test_replies_find_who_asked() -> None:
    inbox = Inbox()
    first, second = inbox.expect_reply(1), inbox.expect_reply(2)
    inbox.take(Flushed(2, 9))
    inbox.take(Flushed(2, 8))
    inbox.take(Flushed(3, 7))
    assert await second == Flushed(2, 9)
    assert not first.done()
    first.cancel()


async def test_waiting_ends_when_something_comes() -> None:
    answer = answer_of(1)
    inbox = expecting(answer)
    started, pieces = asyncio.create_task(answer.started()), asyncio.create_task(answer.pieces())
    await asyncio.sleep(0)
    assert not started.done()
    inbox.take(Admitted(columns.uint64([1]), columns.int32([0])))
    await started
    assert not pieces.done()
    inbox.take(texts((1, 0, [5], "x", Finish.NONE, None)))
    assert [piece.text for piece in await pieces] == ["x"]


def test_what_was_ended_here_is_still_to_be_aborted_there() -> None:
    """Whatever text was on its way meanwhile."""
    answer = answer_of(7)
    inbox = expecting(answer)
    answer.aborted(answer.choices[0])
    inbox.take(texts((7, 0, [1], "a", Finish.NONE, None)))
    assert inbox.forget(answer) == [7]
