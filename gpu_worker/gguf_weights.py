"""A GGUF file as a source of weights, dequantised, under the names Hugging Face gives them.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Knows nothing of devices.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray
from torch import Tensor

from gpu_worker.grouped import Grouped
from gpu_worker.models.config import INCOMPLETE, ModelConfig, parse_gguf
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

_PERMUTED = ("q_proj.weight", "q_proj.bias", "k_proj.weight", "k_proj.bias")


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
        self._check_places()
        embedding = self._tensors.get("token_embd.weight")
        if embedding is None:
            raise UserError(f"{path} holds no token embedding; parts of a split GGUF file must be merged first")
        try:
            self.config: ModelConfig = parse_gguf(
                header.metadata,
                tied_embeddings="output.weight" not in self._tensors,
                vocab_size=embedding.shape[0],
                source=str(path),
            )
        except INCOMPLETE as error:
            raise UserError(f"{path} is not a complete model: {error!r}") from error

    def __contains__(self, name: str) -> bool:
        return _gguf_name(name) in self._tensors

    def tensor(self, name: str) -> Tensor:
        """The weight with this Hugging Face name, float32 or float16. Raises UserError where there is none."""
        found = self._tensors.get(_gguf_name(name))
        if found is None:
            raise UserError(f"{self._path} lacks the tensor {_gguf_name(name)}")
        weight = self._dequantized(found)
        heads = self._permuted_heads(name, found)
        return weight if heads is None else _unpermuted(weight, heads)

    def _permuted_heads(self, name: str, entry: TensorEntry) -> int | None:
        """How many heads of a weight have reordered rotary pairs, None if it has not. Raises UserError."""
        if self.config.architecture != "llama" or not name.endswith(_PERMUTED):
            return None
        heads = self.config.num_heads if "q_proj" in name else self.config.num_kv_heads
        if entry.shape[0] % (2 * heads):
            raise UserError(f"{self._path}: {entry.name} has {entry.shape[0]} rows for {heads} heads: damaged")
        return heads

    def grouped(self, name: str) -> Grouped | None:
        """The weight as it is stored, if in groups of 32 with a scale, and a minimum or a fixed zero."""
        found = self._tensors.get(_gguf_name(name))
        if found is None or found.ggml_type not in _GROUPED:
            return None
        blocks = self._packed(found)
        weight = _GROUPED[found.ggml_type](blocks)
        heads = self._permuted_heads(name, found)
        if heads is None:
            return weight
        values, scales, minima = (_unpermuted(part, heads) for part in (weight.values, weight.scales, weight.minima))
        return Grouped(values, scales, minima, weight.bits)

    def bits(self, name: str) -> int:
        """Bits of a value: 4 where groups hold them exactly, 8 for every other quantisation, or 16."""
        found = self._tensors.get(_gguf_name(name))
        if found is None or found.ggml_type in _FLOATS:
            return 16
        return 4 if found.ggml_type in (GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q4_1) else 8

    def frequency_divisors(self) -> Tensor | None:
        """float32 [head_dim / 2] by which inverse rotary frequencies are divided (Llama 3's scaling), if any."""
        found = self._tensors.get("rope_freqs.weight")
        return None if found is None else self._dequantized(found).float()

    def _check_places(self) -> None:
        """No tensor lies partly in another. Raises UserError."""
        end = 0
        for entry in sorted(self._tensors.values(), key=lambda entry: entry.offset):
            if entry.offset < end:
                raise UserError(f"{self._path}: {entry.name} overlaps another tensor: the file is damaged")
            end = entry.offset + entry.num_values // entry.shape[-1] * self._row_bytes(entry)

    def _row_bytes(self, entry: TensorEntry) -> int:
        try:
            block, width = GGML_QUANT_SIZES[GGMLQuantizationType(entry.ggml_type)]
        except (ValueError, KeyError):
            raise UserError(f"{self._path}: {entry.name} has the unknown type {entry.ggml_type}") from None
        if entry.shape[-1] % block:
            raise UserError(f"{self._path}: {entry.name} has rows of {entry.shape[-1]}, in blocks of {block}: damaged")
        return entry.shape[-1] // block * width

    def _packed(self, entry: TensorEntry) -> NDArray[np.uint8]:
        """The bytes of a tensor, row by row."""
        row = self._row_bytes(entry)
        length = entry.num_values // entry.shape[-1] * row
        packed = self._bytes[entry.offset : entry.offset + length]
        if len(packed) != length:
            raise UserError(f"{self._path}: {entry.name} is damaged or cut off")
        return packed.reshape(*entry.shape[:-1], row)

    def _dequantized(self, entry: TensorEntry) -> Tensor:
        packed = self._packed(entry)
        kind = GGMLQuantizationType(entry.ggml_type)
        try:
            values = dequantize(packed, kind)
        except NotImplementedError as error:
            raise UserError(f"{self._path}: {entry.name} is quantised as {kind.name}: not supported") from error
        return torch.from_numpy(np.array(values))


def _q4_1(rows: NDArray[np.uint8]) -> Grouped:
    """Blocks of 20 bytes: scale and minimum, float16, then the lower halves are values 0 to 15, the upper 16 to 31."""
    blocks = rows.reshape(len(rows), -1, 20)
    columns = np.ascontiguousarray(blocks[:, :, :4]).view(np.float16)
    return _of_halves(blocks[:, :, 4:], columns[:, :, 0], columns[:, :, 1])


def _q4_0(rows: NDArray[np.uint8]) -> Grouped:
    """Blocks of 18 bytes: the scale, then values as in Q4_1, 8 of which is zero."""
    blocks = rows.reshape(len(rows), -1, 18)
    scales = np.ascontiguousarray(blocks[:, :, :2]).view(np.float16)[:, :, 0]
    return _of_halves(blocks[:, :, 2:], scales, scales * np.float16(-8))


def _q8_0(rows: NDArray[np.uint8]) -> Grouped:
    """Blocks of 34 bytes: the scale, then 32 signed bytes."""
    blocks = rows.reshape(len(rows), -1, 34)
    scales = np.ascontiguousarray(blocks[:, :, :2]).view(np.float16)[:, :, 0]
    values = (blocks[:, :, 2:] ^ np.uint8(0x80)).reshape(len(rows), -1)
    return _grouped(values, scales, scales * np.float16(-128), 8)


def _of_halves(packed: NDArray[np.uint8], scales: NDArray[np.float16], minima: NDArray[np.float16]) -> Grouped:
    low, high = packed & np.uint8(15), packed >> np.uint8(4)
    values = np.concatenate((low, high), axis=2).reshape(len(packed), -1)
    return _grouped(values, scales, minima, 4)


def _grouped(values: NDArray[np.uint8], scales: NDArray[np.float16], minima: NDArray[np.float16], bits: int) -> Grouped:
    return Grouped(torch.from_numpy(values), torch.from_numpy(scales.copy()), torch.from_numpy(minima.copy()), bits)


_GROUPED: dict[int, Callable[[NDArray[np.uint8]], Grouped]] = {
    GGMLQuantizationType.Q4_0: _q4_0,
    GGMLQuantizationType.Q4_1: _q4_1,
    GGMLQuantizationType.Q8_0: _q8_0,
}
_FLOATS = (GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16, GGMLQuantizationType.F64)


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
