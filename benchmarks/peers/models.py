"""The packaged model in the formats of the peers: a Hugging Face folder and a GGUF file, both bfloat16.

Values are those of the packaged Q4_1 file, dequantised once, so that every server computes the same model. The
GGUF file keeps llama.cpp's order of the rows of q and k and all metadata; the folder has Hugging Face's.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, LlamaFileType
from gguf.constants import GGUFValueType
from gguf.quants import dequantize, quantize
from safetensors.torch import save_file

from benchmarks.peers.folders import GGUF_BF16, GGUF_Q4, HF_MODEL, MODELS
from gpu_worker.loader import Weights, open_weights
from gpu_worker.models.config import ModelConfig
from shared.config import Settings
from shared.gguf_tokenizer import converted
from shared.model_files import locate


def write_all() -> None:
    """Write what is not there yet."""
    settings = Settings()
    files = locate(settings.model, settings.cache_path)
    MODELS.mkdir(parents=True, exist_ok=True)
    if not GGUF_Q4.exists():
        GGUF_Q4.unlink(missing_ok=True)
        GGUF_Q4.symlink_to(files.path)
    if not GGUF_BF16.exists():
        _whole(GGUF_BF16, lambda path: write_gguf(files.path, path))
    if not HF_MODEL.exists():
        tokenizer = converted(files.path, settings.cache_path)
        _whole(HF_MODEL, lambda path: write_huggingface(open_weights(files), tokenizer, path))


def huggingface_config(config: ModelConfig, dtype: str = "bfloat16") -> dict[str, Any]:
    """config.json of a Llama."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "mlp_bias": False,
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope.theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope.theta},
        "tie_word_embeddings": config.tied_embeddings,
        "vocab_size": config.vocab_size,
        "bos_token_id": 1,
        "eos_token_id": list(config.eos_token_ids),
        "dtype": dtype,
        "torch_dtype": dtype,
    }


def tensor_names(config: ModelConfig) -> list[str]:
    """Every weight of a Llama without biases, as Hugging Face names them."""
    parts = [f"self_attn.{part}_proj" for part in "qkvo"] + [f"mlp.{part}_proj" for part in ("gate", "up", "down")]
    parts += ["input_layernorm", "post_attention_layernorm"]
    layers = [f"model.layers.{layer}.{part}.weight" for layer in range(config.num_layers) for part in parts]
    ends = ["model.embed_tokens.weight", "model.norm.weight"]
    return [*ends, *layers] + ([] if config.tied_embeddings else ["lm_head.weight"])


def write_huggingface(weights: Weights, tokenizer: Path, folder: Path) -> None:
    """config.json, model.safetensors and the tokenizer's files."""
    shutil.copytree(tokenizer, folder)
    config = weights.config
    (folder / "config.json").write_text(json.dumps(huggingface_config(config), indent=2))
    tensors = {name: weights.tensor(name).to(torch.bfloat16).contiguous() for name in tensor_names(config)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def write_gguf(source: Path, target: Path) -> None:
    """``source`` with bfloat16 in place of every quantised type; float32 (norms) stays."""
    reader = GGUFReader(source)
    writer = GGUFWriter(target, arch=str(reader.fields["general.architecture"].contents()))
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.quantization_version"):
            continue
        value = LlamaFileType.MOSTLY_BF16.value if key == "general.file_type" else field.contents()
        inner = field.types[-1] if field.types[0] is GGUFValueType.ARRAY else None
        writer.add_key_value(key, value, field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        if tensor.tensor_type is GGMLQuantizationType.F32:
            writer.add_tensor(tensor.name, tensor.data)
            continue
        plain = dequantize(tensor.data, tensor.tensor_type)
        packed = quantize(plain, GGMLQuantizationType.BF16)
        writer.add_tensor(tensor.name, packed, raw_dtype=GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _whole(target: Path, write: Any) -> None:
    """All or nothing: written beside, then renamed."""
    scratch = target.with_name(f".new-{target.name}")
    if scratch.is_dir():
        shutil.rmtree(scratch)
    scratch.unlink(missing_ok=True)
    write(scratch)
    scratch.rename(target)
