"""Scores and vectors of requests: all of them, once each, whatever happens; and what is computed for them."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler_svc.limits import Limits
from scheduler_svc.scheduler import Scheduler
from shared import columns
from shared.protocol import Generate, Pooling, Restated, Scoring, Step
from shared.scores import joined
from tests.scheduler_svc.deployment import Deployment
from tests.scheduler_svc.simulated import card, digests, expected, generate, scored, vector_of


def restated(scheduler: Scheduler, id: int) -> Restated:
    """What the scheduler says of a request, though it has ended."""
    scheduler.restate([id])
    [found] = scheduler.outbox.drain().restated
    return found


def check(d: Deployment, request: Generate) -> None:
    """A request that has ended got all that it wants."""
    found = restated(d.scheduler, request.id)
    prompt = columns.ints(request.input_ids)
    output = expected(request)
    assert columns.ints(found.tokens) == output
    past = digests(request.namespace, prompt + output)
    sampling = request.sampling
    if sampling.scoring is None:
        assert found.scores is None
    else:
        start = min(sampling.scoring.start, len(prompt))
        wanted = joined(scored(request.id, past[at - 1], at) for at in range(start, len(past)))
        assert found.scores is not None
        assert (found.scores if found.scores.chosen else None) == wanted
    expected_vector = None if sampling.pooling is None else vector_of(request.id, past[len(prompt) - 1])
    assert found.vector == expected_vector


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), page_size=st.sampled_from([1, 4]), cache=st.booleans())
def test_all_is_known_at_the_end_whatever_happens(seed: int, page_size: int, cache: bool) -> None:
    """Preemption for want of pages, worker restarts, steps read late; requests that share prefixes, some unscored."""
    random = Random(seed)
    d = Deployment(
        card(120 // page_size, page_size, max_running=4, chunk_tokens=random.choice([7, 16])),
        Limits(lease=random.choice([1, 5]), radix_cache=cache),
        random,
    )
    stems = [[random.randint(0, 4) for _ in range(30)] for _ in range(2)]
    for id in range(1, 11):
        prompt = random.choice(stems)[: random.randint(1, 30)] + [id % 5] * random.randint(0, 5)
        scoring = random.choice([None, Scoring(random.randint(1, 40)), Scoring(1)])
        pooling = random.choice([None, None, *Pooling])
        d.submit(generate(id, prompt, random.randint(0, 20), scoring=scoring, pooling=pooling, stop=4))
        for _ in range(random.randint(0, 6)):
            d.round()
            d.forward(burst=random.choice([1, 3]))
            if random.random() < 0.5 and d.steps:
                d.read()
        if random.random() < 0.2:
            d.reopen()
    d.run()
    for request in d.requests.values():
        check(d, request)


def test_what_is_scored_is_computed_though_it_is_cached() -> None:
    """The page before the first position and no more; a vector's mean needs the whole prompt, its last one a token."""
    d = Deployment(card(400, 4, chunk_tokens=64), Limits())
    prompt = [1, 2, 3, 0] * 10
    d.ask(generate(1, prompt, 1))
    wants = [
        (Scoring(1), None, 0), (Scoring(2), None, 0), (Scoring(5), None, 4), (Scoring(6), None, 4),
        (Scoring(40), None, 36), (Scoring(900), None, 36), (None, Pooling.MEAN, 0), (None, Pooling.LAST, 36),
    ]  # fmt: skip
    for id, (scoring, pooling, cached) in enumerate(wants, 2):
        d.ask(generate(id, prompt, 1, scoring=scoring, pooling=pooling))
        assert d.cached[id] == cached
        check(d, d.requests[id])


def test_a_prompt_can_be_cached_in_advance() -> None:
    d = Deployment(card(64, 4), Limits())
    assert d.ask(generate(1, [1, 2, 3, 4] * 5, 0)) == []
    assert d.ends[1] == ["length"]
    d.ask(generate(2, [1, 2, 3, 4] * 5 + [1], 1))
    assert d.cached[2] == 20


def test_a_long_prompt_is_scored_in_parts_and_others_go_on() -> None:
    """A step's logits are bounded; who wants none is computed beside it."""
    d = Deployment(card(2000, 4, chunk_tokens=1500), Limits())
    d.submit(generate(1, [0, 1, 2] * 700, 1, scoring=Scoring(1)))
    d.submit(generate(2, [3] * 900, 1))
    d.run()
    check(d, d.requests[1])
    assert [(id, start) for id, start, _ in d.worker.computed] == [
        (1, 0), (2, 0), (1, 512), (1, 1024), (1, 1536), (1, 2048)
    ]  # fmt: skip


@pytest.mark.parametrize("lost", range(4))
def test_scores_that_were_lost_are_computed_again(lost: int) -> None:
    """A step is gone, and with it scores of a prompt or of a token: that is seen, and mended in a new epoch."""
    d = Deployment(card(64, 4, chunk_tokens=8), Limits())
    d.submit(generate(1, [1, 2, 3] * 6, 6, scoring=Scoring(1)))
    d.round()
    for _ in range(lost):
        d.forward()
        d.read()
    d.forward()
    step = d.steps.pop()
    assert step.scores
    d.outputs[1] = []  # the clients' view is not at issue
    while d.worker.busy:
        d.forward()
    for each in d.steps:
        d.scheduler.on_step(each, d.now)
    assert d.scheduler.torn
    d.steps.clear()
    assert d.live == {1}
    known = restated(d.scheduler, 1)
    d.outputs[1] = columns.ints(known.tokens)
    d.reopen()
    d.run()
    check(d, d.requests[1])


def test_a_step_with_scores_is_never_steady() -> None:
    d = Deployment(card(64, 4), Limits())
    d.submit(generate(1, [1] * 5, 12, scoring=Scoring(5)))
    d.submit(generate(2, [2] * 5, 12))
    d.run()
    check(d, d.requests[1])
    check(d, d.requests[2])


def test_nothing_is_said_of_requests_that_are_not_known() -> None:
    d = Deployment(card(64, 4), Limits())
    d.scheduler.on_step(Step(1, 1, 0, scores=(scored(9, 4, 7),), vectors=(vector_of(9, 4),)), 0.0)
    assert not d.scheduler.torn
