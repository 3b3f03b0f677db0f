"""float32 logits equal transformers' on the same random weights, for every architecture and option."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gpu_worker.kernels.plain import PlainKernels
from gpu_worker.loader import build_decoder, load_decoder, open_weights
from gpu_worker.models.compiled_decoder import CompiledDecoder
from gpu_worker.models.decoder import Decoder
from gpu_worker.packed_loader import build_packed
from shared.errors import UserError
from shared.model_files import ModelFiles
from tests.gpu_worker.forward import whole_forward
from tests.toy import make_toy_model

CPU = torch.device("cpu")
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama tied": ("llama", {"tie_word_embeddings": True}),
    "llama with biases": ("llama", {"attention_bias": True}),
    "llama, wide heads": ("llama", {"head_dim": 24}),
    "llama, one head per KV head": ("llama", {"num_key_value_heads": 4}),
    "llama, one KV head": ("llama", {"num_key_value_heads": 1}),
    "llama, groups of three": ("llama", {"num_attention_heads": 6, "num_key_value_heads": 2, "hidden_size": 96}),
    "llama 3 rope": ("llama", {"rope_scaling": LLAMA3}),
    "llama 3 rope, new layout": ("llama", {"rope_parameters": {**LLAMA3, "rope_theta": 5e5}, "rope_theta": None}),
    "linear rope": ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}),
    "yarn rope": ("qwen2", {"rope_scaling": YARN}),
    "mistral": ("mistral", {}),
    "mistral, sliding window": ("mistral", {"sliding_window": 24}),
    "qwen2": ("qwen2", {}),
    "qwen2 tied": ("qwen2", {"tie_word_embeddings": True, "rope_theta": 1e6}),
    "qwen2, windows in upper layers": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
    ),
    "qwen3": ("qwen3", {}),
    "qwen3, wide heads, tied": ("qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
}


COMPILED = ("llama", "mistral, sliding window", "qwen3")  # the rest is covered by comparing kernels


@pytest.mark.parametrize(("case", "compiled"), [(case, False) for case in CASES] + [(case, True) for case in COMPILED])
def test_logits_equal_transformers(case: str, compiled: bool, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    architecture, overrides = CASES[case]
    directory = make_toy_model(tmp_path, architecture, seed=3, **overrides)
    oracle = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    ids = torch.randint(0, oracle.config.vocab_size, (120,), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = oracle(ids[None]).logits[0]
    weights = open_weights(ModelFiles("toy", "huggingface", directory))
    decoder = (
        build_packed(weights, torch.float32, "none")
        if compiled
        else build_decoder(weights, PlainKernels(), CPU, torch.float32)
    )
    torch.testing.assert_close(whole_forward(decoder, ids.tolist()), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("hidden", "inner"), [(343, 128), (64, 129), (62, 126)])
def test_sizes_that_kernels_cannot_pack_are_computed_without_them(hidden: int, inner: int, tmp_path: Path) -> None:
    """Only odd ones."""
    files = ModelFiles(
        "toy", "huggingface", make_toy_model(tmp_path, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=1)
    )
    loaded = load_decoder(files, CPU, torch.float32)
    assert isinstance(loaded, Decoder if hidden % 2 or inner % 2 else CompiledDecoder)
    expected = whole_forward(build_decoder(open_weights(files), PlainKernels(), CPU, torch.float32), [3, 4, 5])
    torch.testing.assert_close(whole_forward(loaded, [3, 4, 5]), expected, atol=1e-4, rtol=1e-4)


def test_sizes_that_kernels_cannot_pack_are_not_quantized(tmp_path: Path) -> None:
    files = ModelFiles("toy", "huggingface", make_toy_model(tmp_path, hidden_size=343))
    with pytest.raises(UserError, match="hidden_size 343"):
        load_decoder(files, CPU, torch.float32, quantization="q8")
