"""Random weights: of the right shapes, repeatable, and with logits that are finite and worth drawing from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from gpu_worker.dummy_weights import DummyWeights
from gpu_worker.kernels.plain import PlainKernels
from gpu_worker.loader import build_decoder, load_decoder
from gpu_worker.models.config import parse_huggingface
from shared.model_files import ModelFiles
from shared.shapes import SHAPES
from tests.gpu_worker.forward import whole_forward
from tests.toy import make_toy_model

CPU = torch.device("cpu")
IDS = list(range(3, 67))


@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_directory_without_weights_runs(architecture: str, tied: bool, tmp_path: Path) -> None:
    directory = make_toy_model(tmp_path, architecture, tie_word_embeddings=tied)
    (directory / "model.safetensors").unlink()
    files = ModelFiles("toy", "dummy", directory)
    first, second = (whole_forward(load_decoder(files, CPU, torch.float32), IDS) for _ in range(2))
    assert torch.equal(first, second)
    assert first.isfinite().all()
    assert 0.2 < first.std() < 5
    assert len(first.argmax(-1).unique()) > 8, "the context does not matter"


def test_qwen2_has_its_biases(tmp_path: Path) -> None:
    config = parse_huggingface(json.loads((make_toy_model(tmp_path, "qwen2") / "config.json").read_text()))
    weights = DummyWeights(config, CPU, torch.float32)
    assert "model.layers.0.self_attn.q_proj.bias" in weights
    assert "model.layers.0.self_attn.o_proj.bias" not in weights
    assert weights.tensor("model.layers.0.self_attn.k_proj.bias").shape == (config.kv_size,)


def test_the_seed_and_the_name_decide(tmp_path: Path) -> None:
    config = parse_huggingface(json.loads((make_toy_model(tmp_path) / "config.json").read_text()))
    name, other = "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"
    weights = DummyWeights(config, CPU, torch.float32)
    assert torch.equal(weights.tensor(name), DummyWeights(config, CPU, torch.float32).tensor(name))
    assert not torch.equal(weights.tensor(name), weights.tensor(other))
    assert not torch.equal(weights.tensor(name), DummyWeights(config, CPU, torch.float32, seed=1).tensor(name))


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_computes_finite_logits(name: str) -> None:
    """With fewer layers and a smaller vocabulary, in bfloat16."""
    config = parse_huggingface(SHAPES[name] | {"num_hidden_layers": 1, "vocab_size": 1000})
    decoder = build_decoder(DummyWeights(config, CPU, torch.bfloat16), PlainKernels(), CPU, torch.bfloat16)
    logits = whole_forward(decoder, IDS[:8])
    assert logits.isfinite().all()
    assert 0.2 < logits.std() < 5
