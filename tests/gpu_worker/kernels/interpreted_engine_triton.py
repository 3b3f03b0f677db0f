"""The whole worker on the Triton kernels: run by test_decoder_triton.py, as interpreted_decoder_triton.py is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import triton

from gpu_worker import loader
from gpu_worker.engine import Engine
from gpu_worker.kernels.plain import PlainKernels
from gpu_worker.kernels.triton_kernels import TritonKernels
from gpu_worker.startup import load
from shared import columns
from shared.config import Settings
from shared.protocol import Admit, Open, Plan, Sampling, Step
from tests.toy import make_toy_model

assert triton.knobs.runtime.interpret

PAGE = 4
COMMON = 72  # tokens that three of four requests have in common: enough to be read as a shared segment
MORE = 6  # tokens each request generates


def plans() -> list[Plan]:
    """One prompt in two chunks; two more on its pages, one of them but for a few tokens; one that is alone."""
    rng = np.random.default_rng(3)
    prompt = rng.integers(3, 300, 90).tolist()
    requests = [
        (1, prompt, 0, range(60), [(0, 50), (50, 40)]),
        (2, [*prompt[:COMMON], 7, 8, 9], COMMON, [*range(COMMON // PAGE), *range(60, 90)], [(COMMON, 3)]),
        (3, prompt[: COMMON + 1], COMMON, [*range(COMMON // PAGE), *range(90, 120)], [(COMMON, 1)]),
        (4, prompt[5:30], 0, range(120, 150), [(0, 25)]),
    ]
    made: list[Plan] = []
    for request, ids, cached, pages, chunks in requests:
        slots = len(ids) + MORE - 1
        count, have = -(-slots // PAGE), cached // PAGE
        table = list(pages)[:count]
        admit = Admit(
            request,
            columns.int32(ids),
            len(ids),
            cached,
            Sampling(max_tokens=MORE, temperature=0),
            columns.int32(table[:have]),
        )
        for start, length in chunks:
            first = start == cached
            made.append(
                Plan(
                    epoch=100,
                    seq=len(made) + 1,
                    admits=(admit,) if first else (),
                    grant_ids=columns.uint64([request] if first else []),
                    grant_limits=columns.int32([slots] if first else []),
                    grant_page_counts=columns.int32([count - have] if first else []),
                    grant_pages=columns.int32(table[have:] if first else []),
                    chunk_ids=columns.uint64([request]),
                    chunk_starts=columns.int32([start]),
                    chunk_lengths=columns.int32([length]),
                )
            )
    return made


def generated(model: Path) -> dict[int, list[int]]:
    """What the requests get, greedily."""
    settings = Settings(model=str(model), dtype="float32", kv_memory="1MiB", page_size=PAGE, threads=1, max_running=4)
    loaded = load(settings, lambda _: None)
    engine = Engine(loaded.model, loaded.card, incarnation=5)
    engine.receive(Open(epoch=100, incarnation=5))
    for plan in plans():
        engine.receive(plan)
    tokens: dict[int, list[int]] = {}
    while engine.has_work:
        report = engine.step()
        assert isinstance(report, Step)
        for request, token in zip(columns.as_uint64(report.ids), columns.as_int32(report.tokens), strict=True):
            tokens.setdefault(int(request), []).append(int(token))
    return tokens


@pytest.mark.parametrize(
    ("architecture", "overrides"), [("llama", {}), ("qwen3", {}), ("mistral", {"sliding_window": 40})]
)
def test_the_worker_generates_what_it_does_on_plain_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, overrides: dict[str, int]
) -> None:
    shared: list[int] = []

    class Watched(TritonKernels):
        def attention(self, shape, batch, *rest):  # type: ignore[no-untyped-def]
            shared.append(batch.sharing.num_segments)
            return super().attention(shape, batch, *rest)

    model = make_toy_model(tmp_path / "toy", architecture, **overrides)
    monkeypatch.setattr("gpu_worker.kernels.triton_kernels.TritonKernels", Watched)
    actual = generated(model)
    assert shared, "other kernels ran"
    assert max(shared) > 0, "nothing was shared"
    monkeypatch.setattr(loader, "kernels_for", lambda *_: PlainKernels())
    assert generated(model) == actual
    assert {request: len(tokens) for request, tokens in actual.items()} == dict.fromkeys(range(1, 5), MORE)
