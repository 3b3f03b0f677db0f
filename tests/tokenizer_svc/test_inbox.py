"""The dispatch of messages to answers, without streams: what repeats is dropped, what lacks is noticed."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from shared import columns
from shared.protocol import Aborted, Admitted, Failed, Failure, Finish, Flushed
from tests.tokenizer_svc.downstream import Row, texts
from tokenizer_svc.answers import Answer, Choice, Piece
from tokenizer_svc.inbox import Inbox


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


def rows_of(sizes: list[int]) -> list[Row]:
    """All rows of request 7, of so many tokens each; the last one finishes it."""
    rows: list[Row] = []
    first = 0
    for number, size in enumerate(sizes):
        finish = Finish.LENGTH if number == len(sizes) - 1 else Finish.NONE
        rows.append((7, first, list(range(first, first + size)), f"<{number}>", finish, None))
        first += size
    return rows


SIZES = st.lists(st.integers(1, 3), min_size=1, max_size=8)


@given(
    sizes=SIZES,
    restarts=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=3),
    batch=st.integers(1, 5),
)
@settings(deadline=None)
def test_any_repetition_gives_the_text_once(sizes: list[int], restarts: list[tuple[int, int]], batch: int) -> None:
    rows = rows_of(sizes)
    delivered: list[Row] = []
    position = 0
    for reached, back in sorted(restarts):  # a writer gets so far, and its successor begins further back
        delivered += rows[position : max(position, reached)]
        position = min(back, max(position, reached))
    delivered += rows[position:]
    answer = answer_of(7)
    inbox = expecting(answer)
    for start in range(0, len(delivered), batch):
        inbox.take(texts(*delivered[start : start + batch]))
    pieces = drained(answer)
    assert "".join(piece.text for piece in pieces) == "".join(row[3] for row in rows)
    assert [token for piece in pieces for token in piece.tokens] == [token for row in rows for token in row[2]]
    assert [piece.finish for piece in pieces].count(Finish.LENGTH) == 1
    assert answer.failed is None
    assert len(inbox) == 0


@given(sizes=SIZES, missing=st.integers(0, 7))
@settings(deadline=None)
def test_any_gap_fails_the_request(sizes: list[int], missing: int) -> None:
    rows = rows_of(sizes)
    missing %= len(rows)
    answer = answer_of(7)
    inbox = expecting(answer)
    for row in rows[:missing] + rows[missing + 1 :]:
        inbox.take(texts(row))
    if missing == len(rows) - 1:
        assert not answer.is_over
    else:
        assert answer.failed is not None
        assert answer.failed.failure is Failure.WORKER


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
    assert inbox.take(Aborted(1)) == ((), ())


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


def test_a_gap_leaves_the_request_to_abort() -> None:
    answer = answer_of(1)
    inbox = expecting(answer)
    inbox.take(texts((1, 3, [5], "x", Finish.NONE, None)))
    assert answer.failed is not None
    assert inbox.forget(answer) == [1]


def test_forced_tokens_are_counted_once() -> None:
    answer = answer_of(1, 2)
    inbox = expecting(answer)
    inbox.take(texts((1, 0, [5, 6], "ab", Finish.NONE, None), (2, 0, [7], "c", Finish.NONE, None), forced=[2, 0]))
    inbox.take(texts((1, 0, [5, 6], "ab", Finish.NONE, None), forced=[2]))  # repeated by a restarted detokenizer
    inbox.take(texts((1, 2, [8], "d", Finish.NONE, None)))
    inbox.take(texts((1, 3, [9, 10, 11], "e", Finish.STOP, None), forced=[1]))
    assert [choice.forced_tokens for choice in answer.choices] == [3, 0]
    assert [(piece.completion_tokens, piece.forced_tokens) for piece in drained(answer)] == [
        (2, 2),
        (1, 0),
        (3, 2),
        (6, 3),
    ]


async def test_flushes_find_who_asked() -> None:
    inbox = Inbox()
    first, second = inbox.expect_flush(1), inbox.expect_flush(2)
    inbox.take(Flushed(2, 9))
    inbox.take(Flushed(2, 8))
    inbox.take(Flushed(3, 7))
    assert await second == 9
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
