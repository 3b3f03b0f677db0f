"""Log-probabilities and vectors are transformers': of prompts, of what is drawn, however steps are cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gpu_worker.execution import MakeExecution
from gpu_worker.pooling import Pools, PoolSpan
from gpu_worker.scoring import Want, asked_ids, score, unpacked
from gpu_worker.startup import Loaded, load
from shared import columns
from shared.config import Settings
from shared.protocol import Finish, Grammar, Jump, Pooling, Sampling, Scoring, Vector
from shared.scores import each
from tests.gpu_worker.pipelines import pipelined
from tests.gpu_worker.unkind import CONTEXT, PAGE, ROWS, Request, Scheduler

EXACT = 2e-5


@pytest.fixture(scope="module")
def loaded(toy_model: Path, cache_dir: Path) -> Loaded:
    settings = Settings(
        model=str(toy_model), dtype="float32", kv_memory="1MiB", page_size=PAGE, threads=1, max_running=ROWS,
        context_length=CONTEXT, cache_dir=cache_dir,
    )  # fmt: skip
    return load(settings, lambda _: None)


@pytest.fixture(scope="module", params=["lock-step", "pipelined"])
def execution(loaded: Loaded, request: pytest.FixtureRequest) -> MakeExecution | None:
    return None if request.param == "lock-step" else pipelined(loaded)


@pytest.fixture
def scheduler(loaded: Loaded, execution: MakeExecution | None) -> Scheduler:
    return Scheduler(loaded, execution)


@pytest.fixture(scope="module")
def oracle(toy_model: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(toy_model, dtype=torch.float32).eval()


@torch.inference_mode()
def logprobs(oracle: Any, tokens: list[int]) -> Tensor:
    """[len(tokens), V]: row p is what is said of the token at p + 1."""
    return oracle(torch.tensor([tokens])).logits[0].float().log_softmax(-1)


@torch.inference_mode()
def states(oracle: Any, tokens: list[int]) -> Tensor:
    """The last hidden states, after the norm."""
    return oracle.model(torch.tensor([tokens])).last_hidden_state[0].float()


def check(request: Request, oracle: Any) -> None:
    """All that is known of a request is what transformers says of its tokens."""
    scoring = request.sampling.scoring
    assert scoring is not None
    assert request.scores is not None
    tokens = [*request.prompt, *request.output]
    expected = logprobs(oracle, tokens)
    found = list(each(request.scores.whole()))
    start = min(scoring.start, len(request.prompt))
    assert [row.position for row in found] == list(range(start, len(tokens)))
    for row in found:
        said = expected[row.position - 1]
        own = said[tokens[row.position]].item()
        assert row.logprob == pytest.approx(own, abs=EXACT)
        assert row.logprob <= 0
        assert (said > own + EXACT).sum() < row.rank <= (said >= own - EXACT).sum()
        best = said.topk(scoring.top).values.tolist()
        assert [logprob for _, logprob in row.top] == pytest.approx(best, abs=EXACT)
        assert [said[id].item() for id, _ in row.top] == pytest.approx(best, abs=EXACT)
        assert list(row.asked) == pytest.approx([said[id].item() for id in scoring.ids], abs=EXACT)


def submit(scheduler: Scheduler, prompt: list[int], sampling: Sampling) -> Request:
    id = len(scheduler.requests) + 1
    scheduler.submit(id, prompt, sampling)
    return scheduler.requests[id]


def prompt_of(length: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(3, 320, length).tolist()


def test_everything_is_scored_however_it_is_cut(scheduler: Scheduler, oracle: Any) -> None:
    """Rows that want different things side by side, others that want nothing; chunks of odd lengths; a preemption."""
    wants = [
        Scoring(1, 5, (7, 11)), Scoring(9, 0), Scoring(1000, 20), Scoring(5, 0, (3,)), None, Scoring(1, 2),
    ]  # fmt: skip
    requests = [
        submit(
            scheduler,
            prompt_of(20 + n, n),
            Sampling(max_tokens=10, temperature=n % 2, seed=n, scoring=scoring, frequency_penalty=0.5, top_p=0.9),
        )
        for n, scoring in enumerate(wants)
    ]
    for request in requests:
        scheduler.admit(request.id, 4)
        scheduler.chunk(request.id, 3 + request.id)
        scheduler.step()
    scheduler.preempt(requests[0].id)
    scheduler.step()
    for _ in range(9):
        for request in requests[1:]:
            scheduler.chunk(request.id, 7)
        scheduler.step()
    scheduler.preempt(requests[1].id)
    scheduler.open()
    scheduler.finish()
    for request in requests:
        assert request.finish is Finish.LENGTH
        if request.sampling.scoring is not None:
            check(request, oracle)


def test_what_is_forced_otherwise_is_drawn_and_scored(scheduler: Scheduler, oracle: Any) -> None:
    """With a grammar, whatever jumps the request allows; also where the grammar comes after the prompt's logits."""
    sampling = Sampling(
        max_tokens=30,
        temperature=0,
        scoring=Scoring(1, 1),
        grammar=Grammar("text", Jump.CANONICAL),
        stop_token_ids=(2,),
    )
    request = submit(scheduler, prompt_of(9, 1), sampling)
    scheduler.admit(request.id, 40)
    scheduler.chunk(request.id, 9)
    for _ in range(3):
        scheduler.step()  # stalls
    assert not request.output
    scheduler.deliver()
    scheduler.finish()
    assert request.finish is Finish.STOP
    assert len(request.output) > 10
    check(request, oracle)


def test_a_prompt_without_an_answer(scheduler: Scheduler, oracle: Any) -> None:
    """No token, and its end with the last chunk; beside rows that go on."""
    other = submit(scheduler, prompt_of(5, 2), Sampling(max_tokens=8, temperature=0))
    requests = [
        submit(scheduler, prompt_of(17, 3), Sampling(max_tokens=0, scoring=Scoring(1, 3))),
        submit(scheduler, prompt_of(6, 4), Sampling(max_tokens=0)),
    ]
    for request in (other, *requests):
        scheduler.admit(request.id, 10)
        scheduler.chunk(request.id, 8)
    for _ in range(4):
        scheduler.step()
    scheduler.finish()
    for request in requests:
        assert (request.output, request.finish) == ([], Finish.LENGTH)
    assert len(other.output) == 8
    check(requests[0], oracle)
    rows = [
        (row, pending)
        for step in scheduler.steps
        for row, pending in zip(columns.longs(step.ids), columns.ints(step.pending), strict=False)
        if row in (requests[0].id, requests[1].id)
    ]
    assert all(pending == 0 for _, pending in rows)


def test_vectors_of_prompts(scheduler: Scheduler, oracle: Any) -> None:
    """Last and mean, alone and before an answer, in one chunk and in several."""
    requests = [
        submit(scheduler, prompt_of(23, 5), Sampling(max_tokens=0, pooling=Pooling.MEAN)),
        submit(scheduler, prompt_of(23, 6), Sampling(max_tokens=0, pooling=Pooling.LAST)),
        submit(scheduler, prompt_of(9, 7), Sampling(max_tokens=4, temperature=0, pooling=Pooling.MEAN)),
        submit(scheduler, prompt_of(1, 8), Sampling(max_tokens=0, pooling=Pooling.LAST, scoring=Scoring(1))),
        submit(scheduler, prompt_of(4, 9), Sampling(max_tokens=6, temperature=0, scoring=Scoring(1))),
    ]
    for request in requests:
        scheduler.admit(request.id, 10)
        scheduler.chunk(request.id, 7)
    for _ in range(3):
        scheduler.step()
    scheduler.finish()
    for request in requests:
        pooling = request.sampling.pooling
        if pooling is None:
            check(request, oracle)
            continue
        said = states(oracle, request.prompt)
        expected = said[-1] if pooling is Pooling.LAST else said.mean(0)
        assert request.vector is not None
        np.testing.assert_allclose(np.frombuffer(request.vector.values, "<f4"), expected.numpy(), atol=EXACT)
        assert len(request.output) == request.sampling.max_tokens


# --- the parts

VALUES = st.sampled_from([-1.0, 0.0, -0.0, 0.5, 2.0]) | st.floats(-30, 30, width=32)


@given(
    rows=st.lists(st.lists(VALUES, min_size=9, max_size=9), min_size=1, max_size=70),
    top=st.integers(0, 12),
    chosen=st.integers(0, 8),
    ids=st.lists(st.integers(0, 10), max_size=3),
)
def test_scores_are_those_of_a_sorted_row(rows: list[list[float]], top: int, chosen: int, ids: list[int]) -> None:
    """The likeliest first, of equals the lower id; ids beyond the vocabulary are impossible."""
    logits = torch.tensor(rows)
    before = logits.clone()
    half = len(rows) // 2
    wants = [Want(0, 5, 3, half, top // 2, ()), Want(1, 6, 0, len(rows) - half, top, tuple(ids))]
    wants = [want for want in wants if want.length]
    tokens = torch.full((len(rows),), chosen)
    scored = score(logits, tokens, torch.tensor(asked_ids(wants), dtype=torch.int64), wants)
    assert torch.equal(logits, before)
    found = unpacked(scored, lambda _: True)
    assert [scores.id for scores in found] == [want.id for want in wants]
    expected = logits.double().log_softmax(-1)
    at = 0
    for want, scores in zip(wants, found, strict=True):
        for row in each(scores):
            assert row.position == want.first + at - (half if want.id == 6 else 0)
            said, given = expected[at].tolist(), rows[at]
            order = sorted(range(9), key=lambda token: (-given[token], token))[: want.top]
            assert row.logprob == pytest.approx(said[chosen], abs=1e-4)
            assert row.rank == sum(value >= given[chosen] for value in given)
            assert [id for id, _ in row.top] == order
            assert [logprob for _, logprob in row.top] == pytest.approx([said[id] for id in order], abs=1e-4)
            assert row.asked == pytest.approx([said[id] if id < 9 else -np.inf for id in want.ids], abs=1e-4)
            at += 1
    assert at == len(rows)
    assert unpacked(scored, lambda want: want.id == 6) == [scores for scores in found if scores.id == 6]


@given(st.integers(0, 99), st.lists(st.integers(1, 5), min_size=1, max_size=5), st.sampled_from(list(Pooling)))
def test_a_vector_does_not_depend_on_chunks(seed: int, cuts: list[int], pooling: Pooling) -> None:
    total = sum(cuts)
    given_states = torch.from_numpy(np.random.default_rng(seed).standard_normal((total, 6)).astype(np.float32))
    pools, at, vectors = Pools(), 0, list[Vector]()
    for cut in cuts:
        span = PoolSpan(0, 9, cut, pooling, at == 0, total, is_last=at + cut == total)
        if pooling is Pooling.MEAN or span.is_last:
            pooled = pools.take(given_states[at : at + cut], [span])
            assert (pooled is None) == (not span.is_last)
            if pooled is not None:
                vectors.append(Vector(9, pooled.values[0].numpy().tobytes()))
        at += cut
    expected = given_states[-1] if pooling is Pooling.LAST else given_states.double().mean(0).float()
    [vector] = vectors
    assert vector.values == expected.numpy().tobytes()
