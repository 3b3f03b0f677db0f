"""A forward pass as a program: the kernels of each layer in order, and the buffers they work on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gpu_worker.kernels import (
    attention_cpu,
    attention_merge_cpu,
    convert_cpu,
    embedding_cpu,
    frame_cpu,
    product_cpu,
    rms_norm_cpu,
    rotary_cpu,
)
from gpu_worker.kernels.activations_cpu import Form, Rows, form_for, room
from gpu_worker.kernels.compiling import Body, Compiled
from gpu_worker.kernels.panels import Packed
from gpu_worker.kernels.product_cpu import Ending
from gpu_worker.kernels.program_cpu import Op
from gpu_worker.layers import Layer
from gpu_worker.models.config import ModelConfig

_ELEMENTS: dict[torch.dtype, type] = {torch.float32: np.float32, torch.bfloat16: np.uint16}


class PackedLinear(NamedTuple):
    """Weights, and a bias for every output of every panel, float32, where there is one."""

    weight: Packed
    bias: Tensor | None


PackedLayer = Layer[PackedLinear]
"""Norms are float32. In ``gate_up`` half of each panel are gates, half what they let through."""


class Kernels:
    """The machine code that one model needs, compiled on first use."""

    def __init__(self, config: ModelConfig, dtype: torch.dtype) -> None:
        self.config = config
        self.element = _ELEMENTS[dtype]
        self.block = attention_cpu.queries_per_task(config.group_size)
        self._compiled: dict[Any, Compiled] = {}

    def get(self, make: Callable[..., Body], *options: Any) -> int:
        """Address of the kernel that ``make(*options)`` describes."""
        key = (make, *options)
        found = self._compiled.get(key)
        if found is None:
            found = self._compiled[key] = Compiled(make(*options))
        return found.address


class PassBuilder:
    """A program under construction, and the buffers it works on."""

    def __init__(self, kernels: Kernels, frame: np.ndarray, capacity: int, config: ModelConfig) -> None:
        self._kernels = kernels
        self._frame_at: int = frame.ctypes.data
        self._capacity = capacity
        self._config = config
        self.ops: list[Op] = []
        self._rows: dict[tuple[Form, int], Rows] = {}
        self._operand: Rows
        self.residual = torch.zeros(capacity, config.hidden_size)
        self.qkv = torch.zeros(capacity, config.q_size + 2 * config.kv_size)
        self._attended = torch.zeros(capacity, config.q_size)
        self.gated = torch.zeros(capacity, config.intermediate_size)

    def embed(self, embedding: Packed) -> None:
        a = self._op(embedding_cpu.ARGUMENTS, embedding_cpu.embedding_body, embedding.format, self._config.hidden_size)
        a[embedding_cpu.WEIGHTS] = embedding.data.data_ptr()
        a[embedding_cpu.PANEL_BYTES] = embedding.panel_bytes
        a[embedding_cpu.OUT] = self.residual.data_ptr()

    def norm(self, weight: Tensor, before: Packed, only_wanted: bool = False) -> None:
        """The residual, normalised, as operand of the product with ``before``."""
        form, rows = self._room_for(before)
        a = self._op(rms_norm_cpu.ARGUMENTS, rms_norm_cpu.rms_norm_body, self._config.hidden_size, form, only_wanted)
        a[rms_norm_cpu.X] = self.residual.data_ptr()
        a[rms_norm_cpu.WEIGHT] = weight.data_ptr()
        a.view(np.float64)[rms_norm_cpu.EPS] = self._config.rms_norm_eps
        a[rms_norm_cpu.OUT :] = rows.addresses

    def attend(self, layer: PackedLayer, keys: int, values: int) -> None:
        """Rotate, store, attend, merge: from qkv to the operand of ``layer.out``."""
        config, element = self._config, self._kernels.element
        heads, kv_heads, dim = config.num_heads, config.num_kv_heads, config.head_dim
        norms = layer.head_norms
        a = self._op(rotary_cpu.ARGUMENTS, rotary_cpu.rotary_body, heads, kv_heads, dim, element, norms is not None)
        a[rotary_cpu.QKV], a[rotary_cpu.KEYS], a[rotary_cpu.VALUES] = self.qkv.data_ptr(), keys, values
        if norms is not None:
            a[rotary_cpu.Q_NORM], a[rotary_cpu.K_NORM] = norms.q.data_ptr(), norms.k.data_ptr()
            a.view(np.float64)[rotary_cpu.EPS] = config.rms_norm_eps
        for is_single in (False, True):  # of different queries: the second need not wait for the first
            a = self._op(
                attention_cpu.ARGUMENTS,
                attention_cpu.attention_body,
                kv_heads,
                config.group_size,
                dim,
                element,
                is_single,
                waits=is_single,
            )
            a[attention_cpu.QKV], a[attention_cpu.OUT] = self.qkv.data_ptr(), self._attended.data_ptr()
            a[attention_cpu.KEYS], a[attention_cpu.VALUES] = keys, values
            a[attention_cpu.WINDOW] = layer.window or 0
        form, rows = self._room_for(layer.out.weight)
        a = self._op(attention_merge_cpu.ARGUMENTS, attention_merge_cpu.merge_body, heads, dim, form)
        a[attention_merge_cpu.X] = self._attended.data_ptr()
        a[attention_merge_cpu.OUT :] = rows.addresses

    def convert(self, x: Tensor, before: Packed) -> None:
        """Rows as operand of the product with ``before``."""
        form, rows = self._room_for(before)
        a = self._op(convert_cpu.ARGUMENTS, convert_cpu.convert_body, x.shape[1], form)
        a[convert_cpu.X] = x.data_ptr()
        a[convert_cpu.OUT :] = rows.addresses

    def product(self, linear: PackedLinear, out: Tensor, ending: Ending) -> None:
        """The latest operand times ``linear``, into or onto ``out``."""
        a = self._product(linear.weight, ending, only_wanted=False)
        a[product_cpu.BIAS] = 0 if linear.bias is None else linear.bias.data_ptr()
        a[product_cpu.OUT], a[product_cpu.WIDTH] = out.data_ptr(), out.shape[1]

    def logits(self, weight: Packed) -> np.ndarray:
        """The last product; OUT is left to be set in the arguments returned."""
        a = self._product(weight, Ending.STORE, only_wanted=True)
        a[product_cpu.WIDTH] = weight.outputs
        return a

    def _product(self, weight: Packed, ending: Ending, only_wanted: bool) -> np.ndarray:
        a = self._op(product_cpu.ARGUMENTS, product_cpu.product_body, weight.format, ending, only_wanted)
        a[product_cpu.WEIGHTS], a[product_cpu.PANEL_BYTES] = weight.data.data_ptr(), weight.panel_bytes
        a[product_cpu.PANELS], a[product_cpu.INPUTS] = weight.panels, weight.inputs
        a[product_cpu.X : product_cpu.BIAS] = self._operand.addresses
        return a

    def _room_for(self, weight: Packed) -> tuple[Form, Rows]:
        form = form_for(weight.format)
        key = (form, weight.inputs)
        if key not in self._rows:
            self._rows[key] = room(form, self._capacity, weight.inputs)
        self._operand = self._rows[key]
        return form, self._operand

    def _op(self, arguments: int, make: Callable[..., Body], *options: Any, waits: bool = True) -> np.ndarray:
        a = np.zeros(arguments, np.int64)
        a[frame_cpu.FRAME] = self._frame_at
        self.ops.append(Op(self._kernels.get(make, *options), a, waits))
        return a
