"""The sampling kernels on a GPU, where there is one: every check, captured in a graph, and without waiting for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from gpu_worker.kernels.sampling import Drawn, Needs
from gpu_worker.kernels.selection import sampling_kernels_for
from tests.gpu_worker import sampling_cases as cases
from tests.gpu_worker.sampling_cases import Here
from tests.gpu_worker.sampling_checks import every_check

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

EVERYTHING = Needs(adjusts=True, draws=True, truncates=True)


@pytest.fixture
def here() -> Here:
    device = torch.device("cuda")
    return Here(sampling_kernels_for(device), device)


@pytest.fixture
def never_waiting() -> Iterator[Callable[[], None]]:
    """Call it, and from there on whatever waits for the device is an error."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


@every_check
def test_device_sampler(check: Callable[[Here], None], here: Here) -> None:
    check(here)


@pytest.mark.parametrize("vocab", [32_000, 151_936, 262_144])
@pytest.mark.parametrize("count", [1, 5, 64])
def test_large_vocabularies(vocab: int, count: int, here: Here) -> None:
    rng = np.random.default_rng(vocab + count)
    batch = cases.random_batch(rng, vocab, count, count)
    sampler = cases.make_sampler(here, vocab, count)
    cases.admit(sampler, batch)
    assert cases.check(cases.draw(sampler, batch), batch) <= 2


def test_a_captured_draw_is_the_same_draw(here: Here) -> None:
    rng = np.random.default_rng(1)
    batch = cases.random_batch(rng, 5000, 4, 6)
    slots = torch.tensor([*batch.slots, -1, -1], dtype=torch.int32, device=here.device)
    steps = torch.randn(5, 6, 5000, device=here.device) * 3
    found: list[list[Drawn]] = []
    for captured in (False, True):
        sampler = cases.make_sampler(here, 5000, 6)
        cases.admit(sampler, batch)
        logits = steps[0].clone()
        drawn: list[Drawn] = []
        if not captured:
            drawn = [sampler.draw(step.clone(), slots, EVERYTHING) for step in steps]
        else:
            sampler.draw(logits, slots, EVERYTHING)  # compiles
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                result = sampler.draw(logits, slots, EVERYTHING)
            cases.admit(sampler, batch)
            sampler.flush()
            for step in steps:
                logits.copy_(step)
                graph.replay()
                drawn.append(Drawn(*(each.clone() for each in result)))
        found.append(drawn)
    for plain, replayed in zip(*found, strict=True):
        assert torch.equal(plain.tokens, replayed.tokens)
        assert torch.equal(plain.ok, replayed.ok)


def test_nothing_waits_for_the_device(here: Here, never_waiting: Callable[[], None]) -> None:
    batch = cases.random_batch(np.random.default_rng(2), 3000, 6, 6)
    sampler = cases.make_sampler(here, 3000, 6)
    slots = torch.tensor(batch.slots, dtype=torch.int32, device=here.device)
    logits = batch.logits.to(here.device)
    for is_warm in (False, True):
        if is_warm:
            never_waiting()
        cases.admit(sampler, batch)
        sampler.draw(logits, slots, sampler.needs(batch.slots))
        sampler.append(batch.slots[0], len(batch.rows[0].token_ids), (1, 2))
        sampler.draw(logits, slots, EVERYTHING)


def test_edits_are_not_captured(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = cases.random_batch(np.random.default_rng(3), 50, 2, 2)
    sampler = cases.make_sampler(here, 50, 2)
    cases.admit(sampler, batch)
    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        with pytest.raises(RuntimeError, match="flush before"):
            sampler.flush()
    cases.check(cases.draw(sampler, batch), batch)
