"""The engine against a scripted scheduler: plans are applied in order, chunks one plan a step, epochs fence.

The same of both executions: steps may be reported later, but say the same.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_worker.engine import Engine
from gpu_worker.startup import load
from shared import columns
from shared.config import Settings
from shared.protocol import Admit, Finish, FromWorker, Open, Opened, Plan, Sampling, Step
from tests.gpu_worker.pipelines import pipelined


@pytest.fixture(scope="module", params=["lock-step", "pipelined"])
def engine_of(toy_model: Path, request: pytest.FixtureRequest) -> type[Engine]:
    settings = Settings(model=str(toy_model), dtype="float32", kv_memory="1MiB", page_size=4, threads=1, max_running=4)
    loaded = load(settings, lambda _: None)
    execution = None if request.param == "lock-step" else pipelined(loaded)

    class Loaded(Engine):
        def __init__(self) -> None:
            super().__init__(loaded.model, loaded.card, incarnation=5, execution=execution)

    return Loaded


@pytest.fixture
def engine(engine_of: type[Engine]) -> Engine:
    engine = engine_of()  # type: ignore[call-arg]
    assert engine.receive(Open(epoch=100, incarnation=5)) == Opened(epoch=100, incarnation=5)
    return engine


def prompt_plan(seq: int, request_id: int, tokens: list[int], first_page: int, max_tokens: int = 8) -> Plan:
    """Admit, grant everything the request will ever need, compute the whole prompt in one chunk."""
    slots = len(tokens) + max_tokens - 1
    pages = range(first_page, first_page + -(-slots // 4))
    sampling = Sampling(max_tokens=max_tokens, temperature=0)
    return Plan(
        epoch=100,
        seq=seq,
        admits=(Admit(request_id, columns.int32(tokens), len(tokens), 0, sampling, b""),),
        grant_ids=columns.uint64([request_id]),
        grant_limits=columns.int32([slots]),
        grant_page_counts=columns.int32([len(pages)]),
        grant_pages=columns.int32(pages),
        chunk_ids=columns.uint64([request_id]),
        chunk_starts=columns.int32([0]),
        chunk_lengths=columns.int32([len(tokens)]),
    )


def run(engine: Engine) -> list[Step]:
    """Step until there is nothing to do."""
    steps: list[Step] = []
    while engine.has_work:
        report: FromWorker | None = engine.step()
        if report is not None:
            assert isinstance(report, Step)
            steps.append(report)
    return steps


def tokens_of(steps: list[Step], request_id: int) -> list[int]:
    found: list[int] = []
    for step in steps:
        for row, token in zip(
            columns.as_uint64(step.ids).tolist(), columns.as_int32(step.tokens).tolist(), strict=True
        ):
            if row == request_id:
                found.append(token)
    return found


def test_a_request_runs_to_its_end(engine: Engine) -> None:
    engine.receive(prompt_plan(1, 9, [5, 6, 7], first_page=0))
    steps = run(engine)
    assert len(tokens_of(steps, 9)) == 8
    assert [columns.as_int32(step.firsts).tolist() for step in steps] == [[index] for index in range(8)]
    assert steps[-1].finishes == bytes([Finish.LENGTH])
    assert not engine.has_work


def test_neighbours_do_not_change_a_row(engine_of: type[Engine]) -> None:
    def fresh() -> Engine:
        engine = engine_of()  # type: ignore[call-arg]
        engine.receive(Open(epoch=100, incarnation=5))
        return engine

    alone = fresh()
    alone.receive(prompt_plan(1, 9, [5, 6, 7], first_page=0))
    expected = tokens_of(run(alone), 9)
    together = fresh()
    together.receive(prompt_plan(1, 8, [100, 20, 3, 4, 5], first_page=20))
    together.receive(prompt_plan(2, 9, [5, 6, 7], first_page=0))
    together.receive(prompt_plan(3, 7, [11], first_page=40))
    assert tokens_of(run(together), 9) == expected


def test_one_plan_with_chunks_a_step(engine: Engine) -> None:
    engine.receive(prompt_plan(1, 1, [5, 6], 0))
    engine.receive(prompt_plan(2, 2, [7], 4))
    engine.receive(Plan(epoch=100, seq=3, releases=columns.uint64([1, 2])))
    steps = run(engine)
    assert [step.plan for step in steps] == [1, 2, 3]
    assert steps[-1].ids == b""
    assert engine.step() is None


def test_a_plan_delivered_twice_is_applied_once(engine: Engine) -> None:
    plan = prompt_plan(1, 1, [5, 6], 0, max_tokens=3)
    engine.receive(plan)
    engine.receive(plan)
    steps = run(engine)
    assert len(tokens_of(steps, 1)) == 3


def test_an_open_forgets_everything_and_other_epochs_are_ignored(engine: Engine) -> None:
    engine.receive(prompt_plan(1, 1, [5, 6], 0))
    engine.step()
    assert engine.receive(Open(epoch=101, incarnation=4)) is None  # another worker's
    assert engine.receive(Open(epoch=99, incarnation=5)) is None  # an old one
    assert engine.has_work
    assert engine.receive(Open(epoch=101, incarnation=5)) == Opened(epoch=101, incarnation=5)
    assert not engine.has_work
    engine.receive(prompt_plan(2, 1, [5, 6], 0))  # of epoch 100
    assert not engine.has_work


def test_reports_account_for_the_work(engine: Engine) -> None:
    engine.receive(prompt_plan(1, 1, [5, 6, 7], 0, max_tokens=3))
    steps = run(engine)
    assert [step.computed for step in steps] == [3, 1, 1]
    assert [step.seq for step in steps] == [1, 2, 3]
    assert all(step.forward_us > 0 for step in steps)
