"""Attention of decode rows that share a long prefix: once for all of them, or by each for itself."""

from __future__ import annotations

import torch

from benchmarks.gpu import floors
from benchmarks.gpu.batches import decode_batch, filled_pool, pages_for
from benchmarks.gpu.options import Emit, Options
from benchmarks.gpu.rows import Row
from benchmarks.gpu.sections.kernels import attending, one_layer
from gpu_worker.kernels.selection import kernels_for


def measure(options: Options, emit: Emit, *, shape: str) -> None:
    """Of one layer. Three ways: pages shared and read once, shared pages that each row reads, pages of their own."""
    sizes, device, dtype, timer = options.sizes, options.torch_device, options.dtype, options.timer()
    config = one_layer(options, shape)
    context = sizes.prefix + sizes.tail
    kernels = kernels_for(device, dtype)
    pool = filled_pool(config, pages_for(max(sizes.degrees), context), dtype, device)
    for rows in sizes.degrees:
        name = f"sharing/{rows}x{sizes.prefix}"
        taken: dict[str, float] = {}
        for way, shared, noticed in (
            ("shared", sizes.prefix, True),
            ("shared, not noticed", sizes.prefix, False),
            ("apart", 0, True),
        ):
            batch = decode_batch(rows, context, config, device, shared=shared, noticed=noticed)
            with torch.inference_mode():
                taken[way] = timer.seconds(attending(kernels, config, batch, pool, dtype))
            work = floors.decode_attention(config, [context] * rows, dtype.itemsize, shared)
            emit(Row(f"{name}/{way}", taken[way], work=work))
        note = "over not noticed"
        emit(Row(f"{name}/speedup", taken["shared, not noticed"] / taken["shared"], "x", note=note))
        emit(Row(f"{name}/speedup over apart", taken["apart"] / taken["shared"], "x"))
