"""Configurations are read exactly or refused with a message that names the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gpu_worker.kernels.plain import PlainKernels
from gpu_worker.loader import build_decoder, load_decoder, open_weights
from gpu_worker.models.config import parse_huggingface, read_huggingface_config
from shared.errors import UserError
from shared.model_files import ModelFiles
from tests.gpu_worker.forward import whole_forward
from tests.toy import make_toy_model

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "gpt2"}, "gpt2"),
        ({"model_type": None}, "unknown"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "longrope"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2}}, "dynamic"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"num_key_value_heads": 3}, "multiple"),
        ({"head_dim": 15}, "odd"),
    ],
)
def test_what_is_not_computed_exactly_is_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        parse_huggingface({**LLAMA, **change})


def test_defaults_of_an_old_configuration() -> None:
    config = parse_huggingface({**LLAMA, "rope_theta": 5000, "eos_token_id": [7, 8]})
    assert (config.num_kv_heads, config.head_dim, config.rope.theta) == (4, 16, 5000.0)
    assert config.eos_token_ids == (7, 8)
    assert not config.tied_embeddings


def test_incomplete_and_broken_configurations(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        read_huggingface_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        read_huggingface_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(UserError, match="num_attention_heads"):
        read_huggingface_config(tmp_path)


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    make_toy_model(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickled"):
        open_weights(ModelFiles("toy", "huggingface", tmp_path))


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    make_toy_model(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.1.mlp.down_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.layers\.1\.mlp\.down_proj\.weight"):
        load_decoder(ModelFiles("toy", "huggingface", tmp_path), "cpu", torch.float32)


def test_a_tensor_of_the_wrong_shape_is_named(tmp_path: Path) -> None:
    make_toy_model(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"] = torch.zeros(100, 64)
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.layers\.0\.mlp\.up_proj\.weight"):
        load_decoder(ModelFiles("toy", "huggingface", tmp_path), "cpu", torch.float32)


def test_shards_and_progress(tmp_path: Path) -> None:
    whole = make_toy_model(tmp_path / "whole")
    sharded = make_toy_model(tmp_path / "sharded")
    weights = load_file(sharded / "model.safetensors")
    (sharded / "model.safetensors").unlink()
    names = sorted(weights)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, held in shards.items():
        save_file({name: weights[name] for name in held}, sharded / file)
    index = {"weight_map": {name: file for file, held in shards.items() for name in held}}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))

    fractions: list[float] = []
    decoders = [
        build_decoder(
            open_weights(ModelFiles("toy", "huggingface", directory)),
            PlainKernels(),
            torch.device("cpu"),
            torch.float32,
            fractions.append,
        )
        for directory in (whole, sharded)
    ]
    expected, actual = (whole_forward(decoder, range(3, 40)) for decoder in decoders)
    assert torch.equal(actual, expected)
    assert fractions[-1] == 1.0
    first = fractions[: len(fractions) // 2]
    assert first == sorted(first)


def test_a_shard_outside_the_directory_is_refused(tmp_path: Path) -> None:
    make_toy_model(tmp_path)
    index = {"weight_map": {"model.embed_tokens.weight": "../secret.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="outside"):
        load_decoder(ModelFiles("toy", "huggingface", tmp_path), "cpu", torch.float32)
