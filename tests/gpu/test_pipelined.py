"""The pipelined engine on a device: captured graphs, the same tokens as in lock-step, and nobody waits in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from gpu_worker.startup import Loaded, load
from shared.config import Settings
from shared.protocol import Finish, Grammar, Jump, Sampling
from tests.gpu_worker.test_pipelined import CONTEXT, PAGE, ROWS, Scheduler, alone


@pytest.fixture(scope="module")
def loaded(toy_model: Path, cache_dir: Path) -> Loaded:
    settings = Settings(
        model=str(toy_model), device="cuda", dtype="float32", kv_memory="1MiB", page_size=PAGE, max_running=ROWS,
        context_length=CONTEXT, cache_dir=cache_dir,
    )  # fmt: skip
    loaded = load(settings, lambda _: None)
    assert loaded.execution is not None
    return loaded


@contextmanager
def nobody_waits() -> Iterator[None]:
    """Any wait for the device raises, but for events."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


REQUESTS = [
    Sampling(max_tokens=30, temperature=0.0),
    Sampling(max_tokens=40, temperature=1.0, seed=1, top_p=0.9),
    Sampling(max_tokens=40, temperature=0.8, seed=2, top_k=20, frequency_penalty=0.5),
    Sampling(max_tokens=60, temperature=1.0, seed=3, grammar=Grammar("record")),
    Sampling(max_tokens=60, temperature=1.0, seed=4, grammar=Grammar("open", Jump.EXACT)),
    Sampling(max_tokens=40, temperature=1.0, seed=5, grammar=Grammar("nested")),
]


@pytest.mark.parametrize("count", [1, 3, 6])
def test_tokens_are_those_of_lock_step(loaded: Loaded, count: int) -> None:
    outputs: list[list[tuple[list[int], Finish | None]]] = []
    for execution in (None, loaded.execution):
        scheduler = Scheduler(loaded, execution)
        for id, sampling in enumerate(REQUESTS[:count], 1):
            scheduler.submit(id, [5 * id, 6, 7 + id], sampling)
        scheduler.finish()
        outputs.append([(request.output, request.finish) for request in scheduler.requests.values()])
    assert outputs[0] == outputs[1]


def test_a_steady_step_waits_for_nothing(loaded: Loaded) -> None:
    """Free and constrained rows, once their prompts are computed and all slots are granted."""
    scheduler = Scheduler(loaded, loaded.execution)
    requests = [alone(scheduler, [5, 6, 7], max_tokens=60, temperature=1.0, seed=seed, top_p=0.9) for seed in range(3)]
    grammar = Grammar("open", Jump.OFF)
    requests.append(alone(scheduler, [8, 9], max_tokens=60, temperature=1.0, grammar=grammar))
    for _ in range(10):
        scheduler.step()
        scheduler.deliver()
    with nobody_waits():
        for _ in range(20):
            scheduler.step()
    assert all(request.ended or len(request.output) > 20 for request in requests)
    scheduler.finish()
