"""The pipelined engine on all Triton kernels: run by test_pipeline_triton.py in a process of its own, which sets
TRITON_INTERPRET before anything imports triton.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import triton
from torch import Tensor

from gpu_worker import startup
from gpu_worker.device_rows import HostFacts
from gpu_worker.graphs import Bucket
from gpu_worker.kernels.mask_kernels_triton import TritonMaskKernels
from gpu_worker.kernels.sampling_kernels_triton import TritonSamplingKernels
from gpu_worker.kernels.triton_kernels import TritonKernels
from shared.config import Settings
from shared.protocol import Finish, Grammar, Sampling
from tests.gpu_worker.pipelines import pipelined
from tests.gpu_worker.test_pipelined import CONTEXT, PAGE, ROWS, Scheduler
from tests.toy import make_toy_model

assert triton.knobs.runtime.interpret

REQUESTS = [
    Sampling(max_tokens=8, temperature=0.0),
    Sampling(max_tokens=10, temperature=1.0, seed=1, top_p=0.9),
    Sampling(max_tokens=10, temperature=1.0, seed=2, frequency_penalty=0.7, logit_bias=((77, 2.0),)),
    Sampling(max_tokens=40, temperature=1.0, seed=3, grammar=Grammar("record")),
]


@np.errstate(over="ignore")
def test_planned_buckets_give_the_tokens_of_lock_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention plans are filled anew for every replay, for rows of one token and for forced runs."""
    monkeypatch.setattr(
        startup, "mask_kernels_for", lambda device, vocabulary, _: TritonMaskKernels(vocabulary, device)
    )
    settings = Settings(
        model=str(make_toy_model(tmp_path / "toy")), dtype="float32", kv_memory="1MiB", page_size=PAGE, threads=1,
        max_running=ROWS, context_length=CONTEXT, cache_dir=tmp_path,
    )  # fmt: skip
    loaded = startup.load(settings, lambda _: None)
    assert isinstance(loaded.model._decoder._kernels, TritonKernels)
    launched: list[HostFacts] = []
    run = Bucket.run

    def noted(self: Bucket, facts: HostFacts, *args: Any, **kwargs: Any) -> Tensor:
        assert self._plan is not None
        launched.append(facts)
        return run(self, facts, *args, **kwargs)

    monkeypatch.setattr(Bucket, "run", noted)
    outputs: list[list[tuple[list[int], Finish | None]]] = []
    for execution in (None, pipelined(loaded, kernels=TritonSamplingKernels())):
        scheduler = Scheduler(loaded, execution)
        for id, sampling in enumerate(REQUESTS, 1):
            scheduler.submit(id, [5 * id, 6, 7 + id], sampling)
        scheduler.finish()
        outputs.append([(request.output, request.finish) for request in scheduler.requests.values()])
    assert outputs[0] == outputs[1]
    assert len(launched) > 10
    assert max(facts.max_new for facts in launched) > 3
