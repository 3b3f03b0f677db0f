"""GGUF files give the logits of the safetensors they were made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from gpu_worker.kernels.plain import PlainKernels
from gpu_worker.loader import build_decoder, open_weights
from gpu_worker.models.config import ModelConfig, read_huggingface_config
from gpu_worker.models.decoder import Decoder
from gpu_worker.models.rope import RopeKind
from gpu_worker.packed_loader import build_packed
from shared.errors import UserError
from shared.model_files import ModelFiles
from tests.gpu_worker.forward import whole_forward
from tests.toy import make_toy_model

CPU = torch.device("cpu")
IDS = list(range(5, 90))


def load(path: Path, kind: Any) -> Decoder:
    weights = open_weights(ModelFiles("toy", kind, path))
    return build_decoder(weights, PlainKernels(), CPU, torch.float32)


def write_gguf(
    directory: Path, path: Path, *, quantise: gguf.GGMLQuantizationType | None = None, **extra: Any
) -> ModelConfig:
    """Convert a toy directory as llama.cpp's converter does: its names, and rotary pairs reordered for llama."""
    config = read_huggingface_config(directory)
    architecture = "llama" if config.architecture == "mistral" else config.architecture
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.num_layers)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(config.rope.theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_eos_token_id(2)
    for key, value in extra.items():
        getattr(writer, key)(value)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], config.num_layers)
    for name, weight in load_file(directory / "model.safetensors").items():
        stem, _, suffix = name.rpartition(".")
        for part, heads in (("q_proj", config.num_heads), ("k_proj", config.num_kv_heads)):
            if architecture == "llama" and stem.endswith(part):
                weight = permuted(weight, heads)
        target = f"{names.get_name(stem)}.{suffix}"
        if quantise is not None and weight.ndim == 2:
            writer.add_tensor(target, gguf.quants.quantize(weight, quantise), raw_dtype=quantise)
        else:
            writer.add_tensor(target, np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return config


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """LlamaModel.permute of llama.cpp's convert_hf_to_gguf.py."""
    shape = (heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return weight.reshape(shape).swapaxes(1, 2).reshape(weight.shape)


@pytest.mark.parametrize(
    ("architecture", "overrides"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True, "attention_bias": True}),
        ("mistral", {"num_key_value_heads": 1}),
        ("qwen2", {"tie_word_embeddings": True}),
        ("qwen3", {"head_dim": 32}),
    ],
)
def test_logits_equal_those_of_the_safetensors(architecture: str, overrides: dict[str, Any], tmp_path: Path) -> None:
    directory = make_toy_model(tmp_path / "toy", architecture, seed=5, **overrides)
    write_gguf(directory, tmp_path / "toy.gguf")
    expected = whole_forward(load(directory, "huggingface"), IDS)
    actual = load(tmp_path / "toy.gguf", "gguf")
    assert actual.config.tied_embeddings == overrides.get("tie_word_embeddings", False)
    assert actual.config.eos_token_ids == (2,)
    torch.testing.assert_close(whole_forward(actual, IDS), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.F16])
def test_quantised_weights_are_close(kind: gguf.GGMLQuantizationType, tmp_path: Path) -> None:
    directory = make_toy_model(tmp_path / "toy", seed=5)
    write_gguf(directory, tmp_path / "toy.gguf", quantise=kind)
    expected = whole_forward(load(directory, "huggingface"), IDS)
    actual = whole_forward(load(tmp_path / "toy.gguf", "gguf"), IDS)
    assert torch.nn.functional.cosine_similarity(actual, expected, dim=-1).min() > 0.99


GROUPED = {
    gguf.GGMLQuantizationType.Q4_0: 4,
    gguf.GGMLQuantizationType.Q4_1: 4,
    gguf.GGMLQuantizationType.Q8_0: 8,
}


@pytest.mark.parametrize("kind", GROUPED)
def test_groups_are_read_exactly_as_they_are_stored(kind: gguf.GGMLQuantizationType, tmp_path: Path) -> None:
    """Queries and keys too, whose rotary pairs are put back in order."""
    directory = make_toy_model(tmp_path / "toy", seed=5)
    write_gguf(directory, tmp_path / "toy.gguf", quantise=kind)
    weights = open_weights(ModelFiles("toy", "gguf", tmp_path / "toy.gguf"))
    for part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.o_proj", "mlp.down_proj"):
        name = f"model.layers.0.{part}.weight"
        grouped = weights.grouped(name)
        assert grouped is not None
        assert grouped.bits == weights.bits(name) == GROUPED[kind]
        torch.testing.assert_close(grouped.dequantized(), weights.tensor(name).float(), rtol=0, atol=1e-7)
    assert weights.grouped("model.norm.weight") is None
    assert weights.bits("model.norm.weight") == 16


def test_other_quantisations_are_computed_in_eight_bits(tmp_path: Path) -> None:
    directory = make_toy_model(tmp_path / "toy", seed=5)
    write_gguf(directory, tmp_path / "toy.gguf", quantise=gguf.GGMLQuantizationType.Q5_0)
    weights = open_weights(ModelFiles("toy", "gguf", tmp_path / "toy.gguf"))
    assert weights.grouped("model.layers.0.mlp.down_proj.weight") is None
    decoder = build_packed(weights, torch.bfloat16, "auto")
    assert decoder.precision == "8-bit weights, bfloat16 KV"
    expected = whole_forward(load(tmp_path / "toy.gguf", "gguf"), IDS)
    actual = whole_forward(decoder, IDS)
    assert torch.nn.functional.cosine_similarity(actual, expected, dim=-1).min() > 0.99


def test_linear_rope_scaling_is_read(tmp_path: Path) -> None:
    scaled = make_toy_model(tmp_path / "scaled", seed=5, rope_scaling={"type": "linear", "factor": 4.0})
    write_gguf(
        scaled, tmp_path / "toy.gguf", add_rope_scaling_type=gguf.RopeScalingType.LINEAR, add_rope_scaling_factor=4.0
    )
    decoder = load(tmp_path / "toy.gguf", "gguf")
    assert decoder.config.rope.kind is RopeKind.LINEAR
    expected = whole_forward(load(scaled, "huggingface"), IDS)
    torch.testing.assert_close(whole_forward(decoder, IDS), expected, rtol=0, atol=1e-5)


def test_broken_files_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(UserError, match=r"broken\.gguf"):
        open_weights(ModelFiles("broken", "gguf", broken))


def test_unknown_rope_scaling_is_refused(tmp_path: Path) -> None:
    directory = make_toy_model(tmp_path / "toy")
    write_gguf(directory, tmp_path / "toy.gguf", add_rope_scaling_type=gguf.RopeScalingType.LONGROPE)
    with pytest.raises(UserError, match="longrope"):
        open_weights(ModelFiles("toy", "gguf", tmp_path / "toy.gguf"))
