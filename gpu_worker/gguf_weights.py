"""A GGUF file as a source of weights, dequantised, under the names Hugging Face gives them.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Knows nothing of devices.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from torch import Tensor

from gpu_worker.models.config import ModelConfig, parse_gguf
from shared.errors import UserError
from shared.gguf_header import GGUFError, TensorEntry, read_header

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
            header = read_header(path, _is_wanted)
        except (OSError, GGUFError) as error:
            raise UserError(f"{path} cannot be read as a GGUF file: {error}") from error
        self._path = path
        self._bytes = np.memmap(path, np.uint8, "r")
        self._tensors = header.tensors
        embedding = self._tensors.get("token_embd.weight")
        if embedding is None:
            raise UserError(f"{path} holds no token embedding; parts of a split GGUF file must be merged first")
        self.config: ModelConfig = parse_gguf(
            header.metadata,
            tied_embeddings="output.weight" not in self._tensors,
            vocab_size=embedding.shape[0],
            source=str(path),
        )

    def __contains__(self, name: str) -> bool:
        return _gguf_name(name) in self._tensors

    def tensor(self, name: str) -> Tensor:
        """The weight with this Hugging Face name, float32 or float16. Raises UserError where there is none."""
        found = self._tensors.get(_gguf_name(name))
        if found is None:
            raise UserError(f"{self._path} lacks the tensor {_gguf_name(name)}")
        weight = self._dequantized(found)
        if self.config.architecture == "llama" and name.endswith(("q_proj.weight", "q_proj.bias")):
            return _unpermuted(weight, self.config.num_heads)
        if self.config.architecture == "llama" and name.endswith(("k_proj.weight", "k_proj.bias")):
            return _unpermuted(weight, self.config.num_kv_heads)
        return weight

    def frequency_divisors(self) -> Tensor | None:
        """float32 [head_dim / 2] by which inverse rotary frequencies are divided (Llama 3's scaling), if any."""
        found = self._tensors.get("rope_freqs.weight")
        return None if found is None else self._dequantized(found).float()

    def _dequantized(self, entry: TensorEntry) -> Tensor:
        try:
            kind = GGMLQuantizationType(entry.ggml_type)
            block, width = GGML_QUANT_SIZES[kind]
        except (ValueError, KeyError):
            raise UserError(f"{self._path}: {entry.name} has the unknown type {entry.ggml_type}") from None
        row = entry.shape[-1] // block * width
        length = entry.num_values // entry.shape[-1] * row
        packed = self._bytes[entry.offset : entry.offset + length]
        if entry.shape[-1] % block or len(packed) != length:
            raise UserError(f"{self._path}: {entry.name} is damaged or cut off")
        try:
            values = dequantize(packed.reshape(*entry.shape[:-1], row), kind)
        except NotImplementedError as error:
            raise UserError(f"{self._path}: {entry.name} is quantised as {kind.name}: not supported") from error
        return torch.from_numpy(np.array(values))


def _is_wanted(key: str) -> bool:
    return key.startswith(("general.", "llama.", "qwen2.", "qwen3.", "tokenizer.ggml.eos_token_id"))


def _gguf_name(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    if stem.startswith("model.layers."):
        _, _, layer, part = stem.split(".", 3)
        return f"blk.{layer}.{_NAMES[part]}.{kind}"
    return f"{_NAMES[stem]}.{kind}"


def _unpermuted(weight: Tensor, heads: int) -> Tensor:
    """Undo llama.cpp's reordering of rotary pairs: from interleaved pairs to halves, head by head."""
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)
