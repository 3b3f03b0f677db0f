"""A GGUF file as a source of weights, dequantised, under the names Hugging Face gives them.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Knows nothing of devices.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader, ReaderTensor
from gguf.quants import dequantize
from torch import Tensor

from gpu_worker.models.config import ModelConfig, parse_gguf
from shared.errors import UserError

_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


class GGUFWeights:
    """One GGUF file."""

    def __init__(self, path: Path) -> None:
        try:
            reader = GGUFReader(path)
        except (OSError, ValueError, IndexError) as error:
            raise UserError(f"{path} cannot be read as a GGUF file: {error}") from error
        self._path = path
        self._tensors: dict[str, ReaderTensor] = {tensor.name: tensor for tensor in reader.tensors}
        if "token_embd.weight" not in self._tensors:
            raise UserError(f"{path} holds no token embedding; parts of a split GGUF file must be merged first")
        self.config: ModelConfig = parse_gguf(
            _metadata(reader),
            tied_embeddings="output.weight" not in self._tensors,
            vocab_size=int(self._tensors["token_embd.weight"].shape[1]),
            source=str(path),
        )

    def __contains__(self, name: str) -> bool:
        return _gguf_name(name) in self._tensors

    def tensor(self, name: str) -> Tensor:
        """The weight with this Hugging Face name, float32 or float16. Raises UserError where there is none."""
        found = self._tensors.get(_gguf_name(name))
        if found is None:
            raise UserError(f"{self._path} lacks the tensor {_gguf_name(name)}")
        weight = _dequantized(found, self._path)
        if self.config.architecture == "llama" and name.endswith(("q_proj.weight", "q_proj.bias")):
            return _unpermuted(weight, self.config.num_heads)
        if self.config.architecture == "llama" and name.endswith(("k_proj.weight", "k_proj.bias")):
            return _unpermuted(weight, self.config.num_kv_heads)
        return weight

    def frequency_divisors(self) -> Tensor | None:
        """float32 [head_dim / 2] by which inverse rotary frequencies are divided (Llama 3's scaling), if any."""
        found = self._tensors.get("rope_freqs.weight")
        return None if found is None else _dequantized(found, self._path).float()


def _metadata(reader: GGUFReader) -> dict[str, Any]:
    wanted = ("general.", "llama.", "qwen2.", "qwen3.", "tokenizer.ggml.eos_token_id")
    return {name: field.contents() for name, field in reader.fields.items() if name.startswith(wanted)}


def _gguf_name(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    if stem.startswith("model.layers."):
        _, _, layer, part = stem.split(".", 3)
        return f"blk.{layer}.{_NAMES[part]}.{kind}"
    return f"{_NAMES[stem]}.{kind}"


def _dequantized(tensor: ReaderTensor, path: Path) -> Tensor:
    try:
        values = dequantize(tensor.data, tensor.tensor_type)
    except NotImplementedError as error:
        raise UserError(f"{path}: {tensor.name} is quantised as {tensor.tensor_type.name}: not supported") from error
    return torch.from_numpy(values.copy() if not values.flags.writeable else values)


def _unpermuted(weight: Tensor, heads: int) -> Tensor:
    """Undo llama.cpp's reordering of rotary pairs: from interleaved pairs to halves, head by head."""
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)
