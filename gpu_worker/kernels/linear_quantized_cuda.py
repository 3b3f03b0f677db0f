"""Weight-only quantised linear layers on CUDA, by torchao: the optional extra ``rootstream[quant]``.

Of torchao 0.18's weight-only kinds, int4 alone has a kernel that multiplies packed weights: torch's own
``_weight_int4pack_mm`` (tinygemm), bfloat16 in and out, a scale and a zero point per group. Its int8 and float8 tensors
are expanded to the dtype of the activations in every call, for torch.compile to fuse: run as they are, they read and
write more memory than plain bfloat16 does. They are refused rather than served slowly.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from gpu_worker.kernels.interface import Linear
from shared.errors import UserError

Kind = Literal["int8", "int4", "fp8"]

_GROUPS = (128, 64, 32)  # inputs that share a scale: the fewest scales that divide a row evenly


def quantized_linear(weight: Tensor, bias: Tensor | None, kind: Kind) -> Linear:
    """[T, in] -> [T, out] with a packed copy of ``weight`` bfloat16 [out, in], on CUDA.

    Raises UserError where torchao is not installed, and for what it has no kernel for.
    """
    if kind != "int4":
        raise UserError(
            f"{kind} weights on CUDA: torchao has no kernel that multiplies them packed, and expanding them in each "
            "step would be slower than bfloat16; use 4-bit weights, or serve without quantisation"
        )
    if weight.device.type != "cuda" or weight.dtype != torch.bfloat16:
        raise UserError(
            f"int4 weights by torchao need --device cuda and --dtype bfloat16, not {weight.device.type} and "
            f"{str(weight.dtype).removeprefix('torch.')}"
        )
    inputs = weight.shape[1]
    group = next((size for size in _GROUPS if inputs % size == 0), None)
    if group is None:
        raise UserError(f"int4 weights need rows of a multiple of {_GROUPS[-1]} inputs, and this model has {inputs}")
    return _int4(weight, bias, group)


def _int4(weight: Tensor, bias: Tensor | None, group: int) -> Linear:
    ao = _torchao()
    config = ao.Int4WeightOnlyConfig(
        group_size=group, int4_packing_format="tile_packed_to_4d", set_inductor_config=False
    )
    outputs, inputs = weight.shape
    layer = torch.nn.Linear(inputs, outputs, bias=bias is not None, device="meta", dtype=weight.dtype)
    layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = torch.nn.Parameter(bias, requires_grad=False)
    ao.quantize_(layer, config)
    return layer


def _torchao() -> Any:
    try:
        import torchao.quantization  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            f"quantised weights on CUDA need torchao, which cannot be imported ({error}): "
            "pip install 'rootstream[quant]', or serve without quantisation"
        ) from error
    return torchao.quantization
