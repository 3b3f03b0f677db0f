"""Steps noted whole come to the same as steps taken row by row, whatever happens in between."""

from __future__ import annotations

from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler_svc.limits import Limits
from scheduler_svc.request import Request
from scheduler_svc.steady import SteadySteps
from shared import columns
from shared.protocol import Step
from tests.scheduler_svc.deployment import Deployment
from tests.scheduler_svc.simulated import card, expected, generate


def decoding(rows: int = 3, lease: int = 16, max_tokens: int = 60) -> Deployment:
    """Rows that have their first tokens, in a scheduler whose accounts nobody looks at."""
    d = Deployment(card(256, 4, max_running=rows), Limits(lease=lease), Random(1), checked=0.0)
    for id in range(1, rows + 1):
        d.submit(generate(id, [id] * 6, max_tokens))
    d.round()
    while not all(d.outputs.values()):
        advance(d)
    return d


def advance(d: Deployment, steps: int = 1) -> None:
    for _ in range(steps):
        d.forward()
        d.read()


def known(d: Deployment) -> dict[int, list[int]]:
    """What the scheduler knows of the outputs of live requests, once it has looked."""
    d.scheduler.check()
    return {id: list(request.output) for id, request in d.scheduler._requests.items()}


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32), lease=st.sampled_from([1, 2, 5, 16]))
def test_the_scheduler_knows_the_clients_outputs_whenever_it_is_asked(seed: int, lease: int) -> None:
    random = Random(seed)
    d = decoding(lease=lease)
    for turn in range(40):
        match random.randrange(8):
            case 0:
                assert known(d) == {id: d.outputs[id] for id in d.live}
            case 1:
                d.submit(generate(100 + turn, [1, turn % 5] * 3, random.randint(1, 20)))
            case 2 if d.live:
                d.abort(random.choice(sorted(d.live)))
            case _:
                advance(d, random.randint(1, 4))
    assert known(d) == {id: d.outputs[id] for id in d.live}
    d.run()
    for id, ends in d.ends.items():
        if ends == ["length"]:
            assert d.outputs[id] == expected(d.requests[id])


def test_a_step_read_again_counts_once() -> None:
    d = decoding()
    for _ in range(5):
        d.forward()
        again = d.steps[0]
        d.read()
        d.scheduler.on_step(again, d.now)
    assert known(d) == d.outputs
    d.run()


def test_a_hole_between_steady_steps_is_noticed() -> None:
    d = decoding()
    advance(d, 2)
    d.worker.step()  # lost
    d.forward()
    d.scheduler.on_step(d.steps.popleft(), d.now)
    assert d.scheduler.torn
    d.reopen()
    d.run()


def test_token_indices_that_do_not_follow_are_noticed_when_they_are_looked_at() -> None:
    d = decoding()
    advance(d)
    step = d.worker.step()
    firsts = columns.as_int32(step.firsts).copy()
    firsts[1] += 1
    d.scheduler.on_step(msgspec.structs.replace(step, firsts=firsts.tobytes()), d.now)
    d.scheduler.check()
    assert d.scheduler.torn


def test_tokens_are_counted() -> None:
    d = decoding()
    advance(d, 9)
    d.scheduler.check()
    assert d.scheduler.stats.generated_tokens == sum(map(len, d.outputs.values()))


def test_only_steps_that_go_on_are_noted() -> None:
    def step(seq: int, ids: list[int], finishes: bytes | None = None, errors: tuple[tuple[int, str], ...] = ()) -> Step:
        column = columns.int32([seq] * len(ids))
        return Step(
            epoch=1,
            seq=seq,
            plan=1,
            ids=columns.uint64(ids),
            firsts=column,
            counts=columns.int32([1] * len(ids)),
            tokens=column,
            finishes=bytes(len(ids)) if finishes is None else finishes,
            errors=errors,
        )

    row = Request(generate(1, [1], 50), 0.0, 1)
    row.output.extend([0])
    row.low_at = 4
    steady = SteadySteps(step(0, [1, 2]), [row, None])
    assert not steady.note(step(2, [1, 2]))  # one is missing
    assert not steady.note(step(1, [1]))  # a row left
    assert not steady.note(step(1, [1, 2], finishes=b"\0\1"))
    assert not steady.note(step(1, [1, 2], errors=((2, "broken"),)))
    assert steady.note(step(1, [1, 2]))
    assert steady.note(step(2, [1, 2]))
    assert not steady.due
    assert steady.note(step(3, [1, 2]))
    assert steady.due
    assert not steady.note(step(4, [1, 2]))  # the row has run low before
    assert steady.follow
    assert steady.settle() == (3, [row])
    assert list(row.output) == [0, 1, 2, 3]


def test_steps_lie_unread_only_while_nobody_waits_for_them() -> None:
    d = Deployment(card(256, 4, max_running=2, chunk_tokens=16), Limits(lease=16), Random(1), checked=0.0)

    def steps(count: int) -> None:
        for _ in range(count):
            d.forward()
            d.steps[-1] = msgspec.structs.replace(d.steps[-1], forward_us=8000)
            d.read()

    for id in (1, 2):
        d.submit(generate(id, [id] * 30, 60))
    d.round()
    assert d.scheduler.ease_s == 0, "prompts are computed"
    steps(8)
    at_ease = d.scheduler.ease_s
    assert 0 < at_ease <= 16 * 0.008 / 2
    steps(1)
    assert d.scheduler.ease_s < at_ease, "leases run down"
    d.submit(generate(3, [3] * 4, 60))
    assert d.scheduler.ease_s == 0, "somebody waits for a row"
