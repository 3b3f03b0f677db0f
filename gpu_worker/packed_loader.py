"""From a model on disk to a decoder compiled for this machine's cores: which weights are packed in which format.

A quantised GGUF file stays as it is where the formats of kernels/panels.py hold it exactly. Knows nothing of names on
the hub or of requests.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gpu_worker.grouped import GROUP, Grouped
from gpu_worker.huge_pages import Arena
from gpu_worker.kernels.panels import PANEL, Format, Packed, pack
from gpu_worker.layers import read_layers, rotary_frequencies
from gpu_worker.models.compiled_decoder import CompiledDecoder
from gpu_worker.models.pass_program import PackedLinear
from gpu_worker.weights import Progress, Weights, checked
from shared.config import Quantization

Join = Callable[[list[Tensor | Grouped]], Tensor | Grouped]


def build_packed(
    weights: Weights,
    dtype: torch.dtype,
    quantization: Quantization,
    progress: Progress | None = None,
    *,
    alone: bool = False,
) -> CompiledDecoder:
    """Read, fuse and pack ``weights``; ``dtype`` is float32 or bfloat16. Raises UserError for broken models."""
    with torch.inference_mode():
        decoder = _Builder(weights, dtype, quantization).decoder(progress or (lambda _: None))
        decoder.alone = alone
        return decoder


class _Builder:
    """One model on its way into memory."""

    def __init__(self, weights: Weights, dtype: torch.dtype, quantization: Quantization) -> None:
        self._weights = weights
        self._config = weights.config
        self._dtype = dtype
        self._quantization = quantization
        self._arena = Arena()

    def decoder(self, report: Progress) -> CompiledDecoder:
        config = self._config
        embedding = self._embedding("model.embed_tokens.weight")
        decoder = CompiledDecoder(
            config,
            self._dtype,
            embedding=embedding,
            layers=read_layers(config, self, report),
            final_norm=self.vector("model.norm.weight", config.hidden_size),
            lm_head=embedding if config.tied_embeddings else self._embedding("lm_head.weight"),
            frequencies=rotary_frequencies(self._weights),
        )
        report(1.0)
        return decoder

    def vector(self, name: str, size: int) -> Tensor:
        return checked(name, self._weights.tensor(name), size).float().clone()

    def linear(self, prefix: str, parts: dict[str, int], inputs: int) -> PackedLinear:
        return self._packed(prefix, parts, inputs, _joined)

    def gated(self, prefix: str, gate: str, up: str, outputs: int, inputs: int) -> PackedLinear:
        return self._packed(prefix, {gate: outputs, up: outputs}, inputs, _interleaved)

    def _packed(self, prefix: str, parts: dict[str, int], inputs: int, join: Join) -> PackedLinear:
        names = {f"{prefix}.{part}": size for part, size in parts.items()}
        weights = [self._matrix(f"{name}.weight", size, inputs) for name, size in names.items()]
        packed = self._kept(pack(join(weights), self._format([f"{name}.weight" for name in names], inputs)))
        if not any(f"{name}.bias" in self._weights for name in names):
            return PackedLinear(packed, None)
        bias = join([self.vector(f"{name}.bias", size) for name, size in names.items()])
        assert isinstance(bias, Tensor)
        return PackedLinear(packed, torch.cat((bias, bias.new_zeros(packed.panels * PANEL - len(bias)))))

    def _embedding(self, name: str) -> Packed:
        config = self._config
        weight = self._matrix(name, config.vocab_size, config.hidden_size)
        form = self._format([name], config.hidden_size)
        if form is Format.Q4 and not (isinstance(weight, Grouped) and weight.bits == 4):
            form = Format.Q8  # logits and embeddings suffer most from rounding
        return self._kept(pack(weight, form))

    def _kept(self, packed: Packed) -> Packed:
        return packed._replace(data=self._arena.keep(packed.data))

    def _format(self, names: list[str], inputs: int) -> Format:
        plain = Format.F32 if self._dtype is torch.float32 else Format.BF16
        if inputs % GROUP:
            return plain
        if self._quantization == "none":
            return plain
        if self._quantization != "auto":
            return Format.Q8 if self._quantization == "q8" else Format.Q4
        if all(self._weights.bits(name) == 4 for name in names):
            return Format.Q4
        return Format.Q8 if all(self._weights.bits(name) < 16 for name in names) else plain

    def _matrix(self, name: str, *shape: int) -> Tensor | Grouped:
        """As it is stored if it may stay so; float32 otherwise."""
        grouped = None if self._quantization == "none" else self._weights.grouped(name)
        if grouped is not None:
            checked(name, grouped.values, *shape)
            return grouped
        return checked(name, self._weights.tensor(name), *shape).float()


def _joined(parts: list[Tensor | Grouped]) -> Tensor | Grouped:
    """Rows after rows."""
    grouped = [part for part in parts if isinstance(part, Grouped)]
    if len(grouped) == len(parts):
        return Grouped(
            torch.cat([part.values for part in grouped]),
            torch.cat([part.scales for part in grouped]),
            torch.cat([part.minima for part in grouped]),
            max(part.bits for part in grouped),
        )
    return torch.cat([part.dequantized() if isinstance(part, Grouped) else part for part in parts])


def _interleaved(parts: list[Tensor | Grouped]) -> Tensor | Grouped:
    """Of two weights of equal size, half a panel of one, then half a panel of the other."""
    first, second = parts
    if isinstance(first, Grouped) and isinstance(second, Grouped):
        return Grouped(
            _alternating(first.values, second.values),
            _alternating(first.scales, second.scales),
            _alternating(first.minima, second.minima),
            max(first.bits, second.bits),
        )
    plain = [part.dequantized() if isinstance(part, Grouped) else part for part in parts]
    return _alternating(*plain)


def _alternating(first: Tensor, second: Tensor) -> Tensor:
    half = PANEL // 2
    missing = -len(first) % half
    halves = [
        torch.cat((rows, rows.new_zeros(missing, *rows.shape[1:]))).unflatten(0, (-1, half)) for rows in (first, second)
    ]
    return torch.cat(halves, dim=1).flatten(0, 1)
