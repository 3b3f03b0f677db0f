"""What the decoder lets through harms no fold: each service against well-typed nonsense about requests that it has."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detokenizer_svc.detokenizer import Detokenizer
from gpu_worker.batch import Batch, PlanError
from gpu_worker.plan_check import check_plan
from scheduler_svc.limits import Limits
from scheduler_svc.policy import Policy
from scheduler_svc.scheduler import Scheduler
from shared import columns
from shared.model_files import ModelFiles
from shared.protocol import (
    Abort,
    Aborted,
    Admit,
    Admitted,
    Failed,
    Flush,
    Flushed,
    Generate,
    Opened,
    Plan,
    ProtocolError,
    Restate,
    Restated,
    Sampling,
    Step,
    Texts,
    Track,
    Untrack,
    decode,
    encode,
)
from shared.tokenizer import Tokenizer
from tests.messages import messages
from tests.scheduler_svc.simulated import card, generate
from tokenizer_svc.answers import Answer, Choice
from tokenizer_svc.inbox import Inbox

IDS = [1, 2, 3]
CARD = card(context=64, max_running=4)


def log(*kinds: type[Any]) -> st.SearchStrategy[list[Any]]:
    """Some messages of these kinds, as a reader gets them: those that the decoder refuses are gone."""
    anything = st.one_of(*(messages(kind, IDS) for kind in kinds))
    return st.lists(anything, min_size=1, max_size=8).map(_read)


def _read(sent: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for message in sent:
        with contextlib.suppress(ProtocolError, OverflowError, UnicodeEncodeError):
            found.append(decode(encode(message)))
    return found


@pytest.fixture(scope="module")
def tokenizer(toy_model: Path) -> Tokenizer:
    return Tokenizer.load(ModelFiles("toy", "huggingface", toy_model), toy_model)


@settings(max_examples=100)
@given(entries=log(Track, Untrack, Opened, Step, Step, Restated))
def test_the_detokenizer_goes_on(tokenizer: Tokenizer, entries: list[Any]) -> None:
    detokenizer = Detokenizer(tokenizer.stream)
    for id in IDS:
        detokenizer.track(Track(id=id, reply_to="t", context=b"", stop=("ab",)), "1-1")
    for number, entry in enumerate(entries, 2):
        match entry:
            case Track():
                detokenizer.track(entry, f"{number}-0")
            case Untrack():
                detokenizer.untrack(entry.id)
            case Opened():
                detokenizer.on_opened(entry, f"{number}-0")
            case Restated():
                detokenizer.on_restated(entry, f"{number}-0")
            case _:
                detokenizer.on_step(entry, f"{number}-0")
    for texts in detokenizer.take().texts.values():
        decode(encode(texts))


@settings(max_examples=100)
@given(entries=log(Generate, Abort, Flush, Restate, Step, Step, Step))
def test_the_scheduler_goes_on_and_its_accounts_stay_right(entries: list[Any]) -> None:
    scheduler = Scheduler(Limits(4, 8, Policy.LPM, True))
    scheduler.reopen(1, card())
    for id in IDS:
        scheduler.submit(generate(id, [1, 2, 3, id], max_tokens=8), 0.0)
    while scheduler.plan(0.0) is not None:
        pass
    for now, entry in enumerate(entries, 1):
        match entry:
            case Generate():
                scheduler.submit(entry, float(now))
            case Abort():
                scheduler.abort(entry.id, notify=entry.notify)
            case Flush():
                scheduler.flush(entry)
            case Restate():
                scheduler.restate(columns.longs(entry.ids))
            case _:
                scheduler.on_step(entry, float(now))
        while (plan := scheduler.plan(float(now))) is not None:
            decode(encode(plan))
        scheduler.check()
    for _, reply in scheduler.outbox.drain().replies:
        decode(encode(reply))


@settings(max_examples=100)
@given(entries=log(Texts, Texts, Texts, Admitted, Aborted, Failed, Flushed))
def test_the_front_door_goes_on(entries: list[Any]) -> None:
    inbox = Inbox()
    inbox.expect(Answer([Choice(id, index, 0, 4) for index, id in enumerate(IDS)], "d"))
    for entry in entries:
        inbox.take(entry)
    assert len(inbox) <= len(IDS)
    assert inbox.load["d"] == len(inbox)


@settings(max_examples=100)
@given(entries=log(Plan))
def test_the_worker_s_batch_takes_a_plan_or_says_why_not(entries: list[Any]) -> None:
    batch = Batch(CARD.max_running, CARD.context_length, CARD.page_size)
    first = Admit(1, columns.int32([1, 2, 3]), 3, 0, Sampling(8), b"")
    batch.apply(Plan(epoch=1, seq=1, admits=(first,)))
    for plan in entries:
        with contextlib.suppress(PlanError):
            check_plan(plan, CARD)
            for chunk in batch.apply(plan):
                assert chunk.length >= 0
    assert batch.tokens.min() >= 0
    assert batch.tokens.max() < CARD.vocab_size
    assert batch.page_tables.max() < CARD.num_pages


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"input_ids": columns.int32([1, 5])}, "a token is 1 to 5, outside 0 to 4"),
        ({"pages": columns.int32([64])}, "a page is 64 to 64, outside 0 to 63"),
        ({"prompt_len": 3}, "3 tokens of prompt in 2"),
        ({"cached_len": 2}, "2 cached in 0 slots"),
        ({"input_ids": columns.int32([1] * 65)}, "context 64"),
    ],
)
def test_a_plan_beyond_the_model_is_refused(changes: dict[str, Any], reason: str) -> None:
    values = {"id": 1, "input_ids": columns.int32([1, 2]), "prompt_len": 2, "cached_len": 0, "pages": b""} | changes
    with pytest.raises(PlanError, match=reason):
        check_plan(Plan(epoch=1, seq=1, admits=(Admit(sampling=Sampling(1), **values),)), CARD)
    with pytest.raises(PlanError, match="a page is 64"):
        check_plan(Plan(epoch=1, seq=1, grant_pages=columns.int32([64])), CARD)
