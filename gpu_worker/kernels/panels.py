"""Weights of a linear layer packed for the CPU: panels of outputs, in the order in which registers want them.

A panel holds all inputs of PANEL successive outputs (the last is padded with zeros), so a product reads memory from
front to back. Formats:

- F32: for each input, PANEL float32.
- BF16: for each pair of inputs, PANEL pairs of bfloat16.
- Q8 and Q4: for each group of 32 inputs, the values, then PANEL scales and PANEL minima, float16:
  ``weight = scale * value + minimum``, as GGUF's Q4_1 has it. Values are unsigned bytes, four successive inputs of one
  output side by side; with Q4 a byte holds two of them, the other one four inputs further on in its upper half.

GGUF's Q4_0, Q4_1 and Q8_0 fit exactly. Everything else is rounded: to Q8 with a relative error of 1/255 of a
group's largest weight, to Q4 of 1/30 of its range.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

from gpu_worker.grouped import GROUP, Grouped
from gpu_worker.kernels.vector_width import LANES

VECTORS = 2  # registers across a panel
PANEL = VECTORS * LANES


class Format(IntEnum):
    """How weights are stored."""

    F32 = 0
    BF16 = 1
    Q8 = 2
    Q4 = 3

    @property
    def is_grouped(self) -> bool:
        return self in (Format.Q8, Format.Q4)


class Packed(NamedTuple):
    """A packed weight."""

    format: Format
    outputs: int
    inputs: int
    data: Tensor  # uint8, panel after panel

    @property
    def panels(self) -> int:
        return -(-self.outputs // PANEL)

    @property
    def panel_bytes(self) -> int:
        return self.data.numel() // self.panels


def group_bytes(form: Format) -> int:
    """Bytes of one group of one panel."""
    return _GROUP_BYTES[form]


_GROUP_BYTES = {Format.Q8: PANEL * (GROUP + 4), Format.Q4: PANEL * (GROUP // 2 + 4)}


def pack(weight: Tensor | Grouped, form: Format) -> Packed:
    """Pack a weight [N, K] in a format; K must be even, and a multiple of 32 for the grouped ones.

    Raises ValueError where it does not fit.
    """
    if isinstance(weight, Grouped):
        outputs, inputs = weight.values.shape
        if form is not Format.Q8 and (form is not Format.Q4 or weight.bits != 4):
            weight = weight.dequantized()
    else:
        outputs, inputs = weight.shape
    if inputs % (GROUP if form.is_grouped else 2):
        raise ValueError(f"{inputs} inputs cannot be packed as {form.name}")
    if form.is_grouped:
        grouped = weight if isinstance(weight, Grouped) else quantized(weight, 4 if form is Format.Q4 else 8)
        return Packed(form, outputs, inputs, _grouped_panels(grouped, form))
    assert not isinstance(weight, Grouped)
    if form is Format.F32:
        panels = _in_panels(weight.float()).transpose(1, 2)
    else:
        panels = _in_panels(weight.to(torch.bfloat16)).unflatten(2, (-1, 2)).transpose(1, 2)
    return Packed(form, outputs, inputs, panels.contiguous().view(torch.uint8).flatten())


def quantized(weight: Tensor, bits: int) -> Grouped:
    """Round a weight [N, K] to ``bits`` (4 or 8) with the scales of each group; not exact."""
    grouped = weight.float().unflatten(1, (-1, GROUP))
    if bits == 8:
        scales = (grouped.abs().amax(-1) / 127).to(torch.float16)
        minima = scales * -128
    else:
        low, high = grouped.amin(-1), grouped.amax(-1)
        scales = ((high - low) / 15).to(torch.float16)
        minima = low.to(torch.float16)
    divisor = scales.float().clamp_min(1e-12)[..., None]
    values = ((grouped - minima.float()[..., None]) / divisor).round().clamp(0, 2**bits - 1)
    return Grouped(values.to(torch.uint8).flatten(1), scales, minima, bits)


def _in_panels(rows: Tensor) -> Tensor:
    """[N, ...] -> [N / PANEL, PANEL, ...], padded with zeros."""
    missing = -rows.shape[0] % PANEL
    if missing:
        rows = torch.cat((rows, rows.new_zeros(missing, *rows.shape[1:])))
    return rows.unflatten(0, (-1, PANEL))


def _grouped_panels(weight: Grouped, form: Format) -> Tensor:
    """All of it moved as words of four values: bytes one by one take four times as long."""
    words = weight.values.contiguous().view(torch.int32)  # [N, K / 4]
    if form is Format.Q4:
        pairs = words.unflatten(1, (-1, 2))
        words = pairs[..., 0] | pairs[..., 1] << 4
    per_group = GROUP // 4 if form is Format.Q8 else GROUP // 8
    values = _in_panels(words).unflatten(2, (-1, per_group)).permute(0, 2, 3, 1)  # [panels, groups, words, PANEL]
    panels, groups = values.shape[:2]
    packed = torch.empty(panels, groups, group_bytes(form) // 4, dtype=torch.int32)
    packed[:, :, : per_group * PANEL].unflatten(2, (per_group, PANEL)).copy_(values)
    columns = packed[:, :, per_group * PANEL :].unflatten(2, (2, PANEL // 2))
    for n, column in enumerate((weight.scales, weight.minima)):
        halves = _in_panels(column.to(torch.float16)).transpose(1, 2).contiguous()
        columns[:, :, n].copy_(halves.view(torch.int32))
    return packed.view(torch.uint8).flatten()
