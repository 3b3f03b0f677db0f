"""Launching ahead changes nothing that anybody is told: scenarios in lock-step and pipelined, token for token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from gpu_worker.device_rows import HostFacts
from gpu_worker.device_sampler import DeviceSampler
from gpu_worker.execution import MakeExecution
from gpu_worker.graphs import Bucket
from gpu_worker.startup import Loaded, load
from shared.config import Settings
from shared.protocol import Finish, Grammar, Jump, Pooling, Sampling, Scoring
from shared.scores import each
from tests.gpu_worker.pipelines import pipelined
from tests.gpu_worker.unkind import CONTEXT, GRAMMARS, PAGE, ROWS, Request, Scheduler
from tests.toy import EOS_ID


@pytest.fixture(scope="module")
def loaded(toy_model: Path, cache_dir: Path) -> Loaded:
    settings = Settings(
        model=str(toy_model), dtype="float32", kv_memory="1MiB", page_size=PAGE, threads=1, max_running=ROWS,
        context_length=CONTEXT, cache_dir=cache_dir,
    )  # fmt: skip
    return load(settings, lambda _: None)


@pytest.fixture(scope="module")
def execution(loaded: Loaded) -> MakeExecution:
    return pipelined(loaded)


@pytest.fixture
def ahead(loaded: Loaded, execution: MakeExecution) -> Scheduler:
    return Scheduler(loaded, execution)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[HostFacts]:
    """The steps that are launched as a whole, in order."""
    found: list[HostFacts] = []
    run = Bucket.run

    def noted(self: Bucket, facts: HostFacts, *args: Any, **kwargs: Any) -> Tensor:
        found.append(facts)
        return run(self, facts, *args, **kwargs)

    monkeypatch.setattr(Bucket, "run", noted)
    return found


samplings = st.builds(
    lambda grammar, jump, greedy, **rest: Sampling(
        grammar=None if grammar is None else Grammar(grammar, jump), temperature=0.0 if greedy else 1.0, **rest
    ),
    grammar=st.sampled_from([None, None, None, *GRAMMARS]),
    jump=st.sampled_from(list(Jump)),
    greedy=st.booleans(),
    max_tokens=st.integers(0, 40),
    scoring=st.none() | st.builds(Scoring, st.integers(1, 25), st.integers(0, 3), st.sampled_from([(), (7, 300)])),
    pooling=st.sampled_from([None, None, *Pooling]),
    seed=st.integers(0, 2**64 - 1),
    top_k=st.sampled_from([0, 5]),
    top_p=st.sampled_from([1.0, 0.8]),
    frequency_penalty=st.sampled_from([0.0, 0.7]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    min_tokens=st.sampled_from([0, 3]),
    logit_bias=st.sampled_from([(), ((EOS_ID, 4.0),), ((400, 1.0),)]),  # the last one's token does not exist
    stop_token_ids=st.sampled_from([(), (EOS_ID,), (EOS_ID, *range(60, 130))]),
)
prompts = st.lists(st.integers(3, 319), min_size=1, max_size=20)
ids = st.integers(1, 8)
actions = st.one_of(
    st.tuples(st.just("step"), st.integers(1, 4)),
    st.tuples(st.just("step"), st.integers(1, 4)),
    st.tuples(st.just("admit"), ids, st.integers(0, 12)),
    st.tuples(st.just("chunk"), ids, st.integers(1, 24)),
    st.tuples(st.just("chunk"), ids, st.just(1000)),
    st.tuples(st.just("grant"), ids, st.integers(1, 16)),
    st.tuples(st.just("preempt"), ids),
    st.tuples(st.just("deliver")),
    st.tuples(st.just("open")),
)


def play(scheduler: Scheduler, submitted: list[tuple[list[int], Sampling]], script: list[tuple[Any, ...]]) -> None:
    for id, (prompt, sampling) in enumerate(submitted, 1):
        scheduler.submit(id, prompt, sampling)
    for name, *arguments in script:
        if name == "step":
            for _ in range(arguments[0]):
                scheduler.step()
        elif name in {"deliver", "open"}:
            getattr(scheduler, name)()
        else:
            id, *rest = arguments
            if id in scheduler.requests:
                getattr(scheduler, name)(id, *rest)
    scheduler.finish()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    submitted=st.lists(st.tuples(prompts, samplings), min_size=1, max_size=8),
    script=st.lists(actions, max_size=40),
)
def test_every_request_gets_the_tokens_that_it_gets_in_lock_step(
    loaded: Loaded,
    execution: MakeExecution,
    submitted: list[tuple[list[int], Sampling]],
    script: list[tuple[Any, ...]],
) -> None:
    in_lock_step, ahead = Scheduler(loaded, None), Scheduler(loaded, execution)
    play(in_lock_step, submitted, script)
    play(ahead, submitted, script)
    for id, expected in in_lock_step.requests.items():
        found = ahead.requests[id]
        assert (found.output, found.finish, found.error) == (expected.output, expected.finish, expected.error)
        assert_close(found, expected)


def assert_close(found: Request, expected: Request) -> None:
    """Log-probabilities and vectors, but for the last bits: steps had other neighbours."""
    if expected.scores is not None and expected.error is None:
        assert found.scores is not None
        rows = zip(each(found.scores.whole()), each(expected.scores.whole()), strict=True)
        for mine, its in rows:
            assert mine.position == its.position
            assert mine.logprob == pytest.approx(its.logprob, abs=1e-4)
            assert [logprob for _, logprob in mine.top] == pytest.approx([logprob for _, logprob in its.top], abs=1e-4)
            assert mine.asked == pytest.approx(its.asked, abs=1e-4)
    if expected.vector is not None and expected.error is None:
        assert found.vector is not None
        mine, its = (np.frombuffer(request.vector.values, "<f4") for request in (found, expected))
        np.testing.assert_allclose(mine, its, atol=1e-4)


def alone(scheduler: Scheduler, prompt: list[int], lease: int = 90, **sampling: Any) -> Request:
    """One request, admitted with room for all of it, and its prompt's chunk planned."""
    id = len(scheduler.requests) + 1
    scheduler.submit(id, prompt, Sampling(**{"max_tokens": 12, "temperature": 0.0, **sampling}))
    scheduler.admit(id, lease)
    scheduler.chunk(id, 1000)
    scheduler.deliver()
    return scheduler.requests[id]


def unseen(scheduler: Scheduler, request: Request) -> int:
    batch = scheduler.engine._batch
    row = batch.row_of(request.id)
    assert row is not None
    return int(batch.unseen[row])


def test_a_step_is_launched_before_the_last_one_is_told(ahead: Scheduler, launched: list[HostFacts]) -> None:
    request = alone(ahead, [5, 6, 7])
    ahead.step()
    assert (len(ahead.steps), unseen(ahead, request)) == (0, 1)
    for told in range(1, 6):
        ahead.step()
        assert (len(request.output), len(launched), unseen(ahead, request)) == (told, told + 1, 1)
    ahead.finish()


def test_no_step_is_launched_beyond_an_end_that_is_known(ahead: Scheduler) -> None:
    request = alone(ahead, [5, 6, 7], max_tokens=7)
    long = alone(ahead, list(range(10, 10 + CONTEXT - 5)), max_tokens=30, lease=4)
    ahead.finish()
    assert (len(request.output), request.finish) == (7, Finish.LENGTH)
    assert (len(long.output), long.finish) == (5, Finish.LENGTH)
    assert sum(step.computed for step in ahead.steps) == 3 + 6 + (CONTEXT - 5) + 4


def test_what_was_drawn_beyond_a_stop_is_never_told(ahead: Scheduler) -> None:
    whole = alone(ahead, [5, 6, 7])
    ahead.finish()
    stop = whole.output[4]
    begun = len(ahead.steps)
    request = alone(ahead, [5, 6, 7], stop_token_ids=(stop,))
    ahead.finish()
    steps = ahead.steps[begun:]
    assert request.finish is Finish.STOP
    assert request.output == whole.output[: whole.output.index(stop) + 1]
    assert sum(len(step.tokens) // 4 for step in steps) == len(request.output)
    assert sum(step.computed for step in steps) == 3 + len(request.output), "one step more than was needed"


@pytest.mark.parametrize("jump", list(Jump))
def test_rows_with_resident_automata_run_ahead(ahead: Scheduler, jump: Jump) -> None:
    request = alone(ahead, [5, 6, 7], max_tokens=60, grammar=Grammar("open", jump), temperature=1.0, seed=5)
    seen: list[int] = []
    while not request.ended:
        ahead.step()
        ahead.deliver()
        if ahead.engine._batch.row_of(request.id) is not None:
            seen.append(unseen(ahead, request))
    ahead.finish()
    assert seen.count(1) > len(seen) / 2
    assert len(request.output) > 10


@pytest.mark.parametrize("name", ["large", "nested"])
def test_rows_that_the_host_follows_take_part_in_every_second_step(ahead: Scheduler, name: str) -> None:
    held = alone(ahead, [5, 6, 7], max_tokens=40, grammar=Grammar(name, Jump.OFF), temperature=1.0)
    free = alone(ahead, [8, 9], max_tokens=40)
    for _ in range(16):
        ahead.step()
        ahead.deliver()
    assert not held.ended
    assert len(held.output) == pytest.approx(len(free.output) / 2, abs=2)
    ahead.finish()


def test_forced_runs_are_launched_as_a_whole(ahead: Scheduler, launched: list[HostFacts]) -> None:
    alone(ahead, [8, 9], max_tokens=40)
    request = alone(ahead, [5, 6, 7], max_tokens=60, grammar=Grammar("record"), temperature=1.0, seed=3)
    ahead.finish()
    assert request.finish is Finish.STOP
    assert max(facts.max_new for facts in launched) > 2
    assert any(facts.num_decodes for facts in launched if facts.max_new > 1), "beside rows of one token"


def test_a_request_that_the_sampler_cannot_hold_fails_alone(ahead: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    request = alone(ahead, [5, 6, 7])
    ahead.step()
    with monkeypatch.context() as patched:
        patched.setattr(DeviceSampler, "admit", _refuse)
        refused = alone(ahead, [5, 6, 7], grammar=Grammar("text"))
        ahead.step()
    ahead.finish()
    assert refused.error == "too much"
    assert request.finish is Finish.LENGTH


def _refuse(*_: object) -> None:
    raise ValueError("too much")


def test_without_graphs_every_step_is_launched_in_pieces(loaded: Loaded, launched: list[HostFacts]) -> None:
    outputs: list[list[int]] = []
    for execution in (None, pipelined(loaded, graphs=False)):
        scheduler = Scheduler(loaded, execution)
        free = alone(scheduler, [8, 9], max_tokens=20, temperature=1.0)
        held = alone(scheduler, [5, 6, 7], max_tokens=60, grammar=Grammar("record"), temperature=1.0, seed=3)
        scheduler.finish()
        outputs.append(free.output + held.output)
    assert outputs[0] == outputs[1]
    assert not launched
