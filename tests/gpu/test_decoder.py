"""Whole decoders on the device: logits as on a CPU, weights as in their files, steps that replay as CUDA graphs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.gpu.batches import PAGE_SIZE, decode_batch, filled_pool, pages_for
from benchmarks.gpu.timing import captured
from gpu_worker.dummy_weights import DummyWeights
from gpu_worker.kernels.plain import PlainKernels
from gpu_worker.kernels.selection import kernels_for
from gpu_worker.loader import build_decoder, load_decoder, open_weights
from gpu_worker.models.config import parse_huggingface
from shared.model_files import ModelFiles
from shared.shapes import SHAPES
from tests.gpu.test_kernels import on
from tests.gpu_worker.forward import Segment, flat_batch, whole_forward
from tests.toy import make_toy_model

CPU = torch.device("cpu")
IDS = torch.randint(3, 300, (150,), generator=torch.Generator().manual_seed(1)).tolist()


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative to the length of ``expected``: rounding to bfloat16 leaves single logits further apart than that."""
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2", "qwen3"])
def test_logits_equal_those_on_a_cpu(architecture: str, tmp_path: Path, cuda: torch.device) -> None:
    """In bfloat16, to what its rounding leaves: the better token stays the better one where it is clearly so."""
    overrides = {"sliding_window": 40} if architecture == "mistral" else {}
    files = ModelFiles("toy", "huggingface", make_toy_model(tmp_path, architecture, seed=5, **overrides))
    expected = whole_forward(load_decoder(files, CPU, torch.float32), IDS)
    decoder = load_decoder(files, cuda, torch.bfloat16)
    pool = filled_pool(decoder.config, 10, torch.bfloat16, cuda)
    found = decoder.forward(on(cuda, flat_batch([Segment(IDS, 0, range(10))], PAGE_SIZE)), pool).cpu()
    assert distance(found, expected) < 0.05
    best = expected.topk(2).values
    clear = best[:, 0] - best[:, 1] > 0.1 * expected.std()
    assert (found.argmax(-1) == expected.argmax(-1))[clear].float().mean() > 0.9


def test_a_prompt_in_chunks_and_then_a_token_gives_the_same_logits(tmp_path: Path, cuda: torch.device) -> None:
    files = ModelFiles("toy", "huggingface", make_toy_model(tmp_path, seed=6))
    decoder = load_decoder(files, cuda, torch.bfloat16)
    pool = filled_pool(decoder.config, 20, torch.bfloat16, cuda)
    whole = decoder.forward(on(cuda, flat_batch([Segment(IDS, 0, range(10))], PAGE_SIZE)), pool)
    parts = [
        decoder.forward(on(cuda, flat_batch([Segment(IDS[a:b], a, range(10, 20))], PAGE_SIZE)), pool)
        for a, b in ((0, 70), (70, 149), (149, 150))
    ]
    assert distance(torch.cat(parts), whole) < 0.03


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_arrive_as_they_are_in_the_file(dtype: torch.dtype, tmp_path: Path, cuda: torch.device) -> None:
    """Converted on the device, fused in place: what a plain product of them gives."""
    files = ModelFiles("toy", "huggingface", make_toy_model(tmp_path, "qwen2", seed=7))
    on_cpu, on_cuda = (
        build_decoder(open_weights(files), PlainKernels(), device, dtype) for device in (torch.device("cpu"), cuda)
    )
    ones = torch.eye(on_cpu.config.hidden_size, dtype=dtype)
    for here, there in zip(on_cpu._layers, on_cuda._layers, strict=True):
        for one, other in ((here.qkv, there.qkv), (here.gate_up, there.gate_up)):
            torch.testing.assert_close(other(ones.to(cuda)).cpu(), one(ones), rtol=1e-2, atol=1e-2)
        assert torch.equal(here.input_norm, there.input_norm.cpu())
    assert torch.equal(on_cpu._embedding, on_cuda._embedding.cpu())


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_with_random_weights_agree_with_plain_kernels(name: str, cuda: torch.device) -> None:
    """Two layers of each, decoding after a long context."""
    config = parse_huggingface(SHAPES[name] | {"num_hidden_layers": 2})
    weights = DummyWeights(config, cuda, torch.bfloat16)
    batch = decode_batch(5, 700, config, cuda, shared=256)
    logits = []
    for kernels in (PlainKernels(), kernels_for(cuda, torch.bfloat16)):
        torch.manual_seed(0)
        pool = filled_pool(config, pages_for(5, 700, 256), torch.bfloat16, cuda)
        logits.append(build_decoder(weights, kernels, cuda, torch.bfloat16).forward(batch, pool))
    assert logits[1].isfinite().all()
    assert distance(logits[1], logits[0]) < 0.03


def test_a_replayed_step_equals_the_launched_one(cuda: torch.device) -> None:
    config = parse_huggingface(SHAPES["qwen3-0.6b"] | {"num_hidden_layers": 2})
    weights = DummyWeights(config, cuda, torch.bfloat16)
    decoder = build_decoder(weights, kernels_for(cuda, torch.bfloat16), cuda, torch.bfloat16)
    pool = filled_pool(config, pages_for(8, 300), torch.bfloat16, cuda)
    plan = decoder.attention_plan(PAGE_SIZE, 8)
    if plan is None:
        pytest.skip("these kernels cannot be captured: triton is not installed")
    batch = decode_batch(8, 300, config, cuda, shared=128)
    expected = decoder.forward(batch, pool)
    plan.fill(batch)
    static = batch._replace(plan=plan)
    kept: list[torch.Tensor] = []
    replay = captured(lambda: kept.append(decoder.forward(static, pool)))
    with torch.inference_mode():
        kept[-1].zero_()
    replay()
    assert distance(kept[-1], expected) < 0.02
