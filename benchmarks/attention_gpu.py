"""Attention of one layer on a GPU: checked against plain torch, then timed beside what the hardware does at best.

    .venv/bin/python benchmarks/attention_gpu.py [--heads 32] [--kv-heads 8] [--dim 128] [--page-size 16] [--json FILE]

Prefill as a share of the rate of a large product, decoding as a share of the rate of a large copy, and decoding of rows
with a common prefix with and without sharing. Times include rotation and writing the KV. With TRITON_INTERPRET=1,
--device cpu, --dtype float16 and a small --scale it only shows that it runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import triton
from torch import Tensor

from gpu_worker.flat_batch import FlatBatch
from gpu_worker.kernels.interface import AttentionShape, Kernels
from gpu_worker.kernels.plain import PlainKernels
from gpu_worker.kernels.selection import kernels_for
from gpu_worker.kv_pool import KVPool
from gpu_worker.models.config import ModelConfig
from gpu_worker.models.rope import Rope, inverse_frequencies
from gpu_worker.sharing import find_sharing, nothing_shared


class Setting(NamedTuple):
    """A model's attention on a device."""

    shape: AttentionShape
    page_size: int
    dtype: torch.dtype
    device: torch.device


class Case(NamedTuple):
    """Rows that compute ``new`` tokens each, the last of which sees ``context``; the first ``common`` are one KV."""

    rows: int
    new: int
    context: int
    common: int = 0


def build(case: Case, setting: Setting, *, sharing: bool = True) -> tuple[FlatBatch, KVPool, Tensor]:
    """Pages in random order, random KV."""
    page, (heads, kv_heads, dim, eps) = setting.page_size, setting.shape
    width, common = -(-case.context // page), case.common // page
    rng = np.random.default_rng(0)
    num_pages = case.rows * width
    tables = rng.permutation(num_pages).astype(np.int32).reshape(case.rows, width)
    tables[:, :common] = tables[0, :common]
    positions = np.arange(case.context - case.new, case.context)
    slots = tables[:, positions // page].astype(np.int64) * page + positions % page
    starts = np.arange(0, case.rows * case.new + 1, case.new, dtype=np.int32)
    kv_lens = np.full(case.rows, case.context, np.int32)
    decodes = case.rows if case.new == 1 else 0
    config = ModelConfig(
        architecture="llama", vocab_size=8, hidden_size=8, intermediate_size=8, num_layers=1, num_heads=heads,
        num_kv_heads=kv_heads, head_dim=dim, context_length=case.context, rms_norm_eps=eps, rope=Rope(5e5),
        tied_embeddings=True, windows=(None,),
    )  # fmt: skip
    pool = KVPool(config, num_pages, page, setting.dtype, setting.device)
    pool.keys[0].normal_()
    pool.values[0].normal_()

    def placed(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(setting.device)

    batch = FlatBatch(
        input_ids=placed(np.zeros(case.rows * case.new, np.int64)),
        positions=placed(np.tile(positions, case.rows)),
        slots=placed(slots.ravel()),
        starts=placed(starts),
        kv_lens=placed(kv_lens),
        page_tables=placed(tables),
        num_decodes=decodes,
        logit_indices=placed(starts[1:].astype(np.int64) - 1),
        max_kv_len=case.context,
        max_new=case.new,
        sharing=find_sharing(tables, kv_lens, page) if sharing and decodes else nothing_shared(decodes),
        host_starts=starts,
        host_kv_lens=kv_lens,
    )
    size = (heads + 2 * kv_heads) * dim
    return batch, pool, torch.randn(case.rows * case.new, size, dtype=setting.dtype, device=setting.device)


def median_s(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Seconds on the device with a cold second-level cache, after two runs to warm up."""
    for _ in range(2):
        run()
    if device.type != "cuda":
        begin = time.perf_counter()
        run()
        return time.perf_counter() - begin
    flush = torch.empty(2**28, dtype=torch.uint8, device=device)
    times: list[float] = []
    for _ in range(repeats):
        flush.zero_()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return statistics.median(times)


def attend(case: Case, setting: Setting, kernels: Kernels, *, sharing: bool = True) -> Callable[[], Tensor]:
    """One layer's attention, ready to run."""
    batch, pool, qkv = build(case, setting, sharing=sharing)
    frequencies = inverse_frequencies(Rope(5e5), setting.shape.head_dim).to(setting.device)
    attention = kernels.attention(setting.shape, batch, frequencies, 1.0, pool)
    return lambda: attention.attend(qkv, 0, None, None)


def check(setting: Setting, kernels: Kernels) -> float:
    """The largest error against plain torch, of outputs that are about 1 and smaller."""
    worst = 0.0
    for case in (Case(3, 1, 700), Case(12, 1, 500, 320), Case(2, 90, 333), Case(1, 5, 2000)):
        outputs: list[Tensor] = []
        for each in (kernels, PlainKernels()):
            torch.manual_seed(1)
            outputs.append(attend(case, setting, each)().float())
        worst = max(worst, float((outputs[0] - outputs[1]).abs().max()))
    return worst


def limits(setting: Setting, scale: float) -> dict[str, float]:
    """What a product and a copy reach here: TFLOP/s and GB/s."""
    size = max(64, int(8192 * scale))
    a, b = (torch.randn(size, size, dtype=setting.dtype, device=setting.device) for _ in range(2))
    product = median_s(lambda: a @ b, setting.device, 20)
    source = torch.empty(int(2**30 * scale), dtype=torch.uint8, device=setting.device)
    target = torch.empty_like(source)
    copy = median_s(lambda: target.copy_(source), setting.device, 20)
    return {"product_tflops": 2 * size**3 / product / 1e12, "copy_gb_per_s": 2 * len(source) / copy / 1e9}


def measure(setting: Setting, kernels: Kernels, scale: float, repeats: int) -> dict[str, float]:
    heads, kv_heads, dim, _ = setting.shape
    figures = limits(setting, scale)
    for new, context in ((8192, 8192), (4096, 32_768), (256, 32_768)):
        new, context = max(1, int(new * scale)), max(1, int(context * scale))
        took = median_s(attend(Case(1, new, context), setting, kernels), setting.device, repeats)
        rate = 4 * heads * dim * new * (context - new / 2) / took / 1e12
        figures[f"prefill_{new}_of_{context}_ms"] = took * 1e3
        figures[f"prefill_{new}_of_{context}_share_of_product"] = rate / figures["product_tflops"]
    for rows, context in ((1, 8192), (1, 65_536), (32, 2048), (256, 2048)):
        context = max(1, int(context * scale))
        took = median_s(attend(Case(rows, 1, context), setting, kernels), setting.device, repeats)
        rate = 2 * rows * context * kv_heads * dim * setting.dtype.itemsize / took / 1e9
        figures[f"decode_{rows}x{context}_us"] = took * 1e6
        figures[f"decode_{rows}x{context}_share_of_copy"] = rate / figures["copy_gb_per_s"]
    for rows, context, common in ((16, 4096, 3584), (128, 4096, 3584), (256, 2048, 1792)):
        case = Case(rows, 1, max(1, int(context * scale)), int(common * scale))
        for sharing in (False, True):
            took = median_s(attend(case, setting, kernels, sharing=sharing), setting.device, repeats)
            name = "shared" if sharing else "apart"
            figures[f"decode_{rows}x{case.context}_{case.common}_common_{name}_us"] = took * 1e6
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=8)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--page-size", type=int, default=16)
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--scale", type=float, default=1.0, help="of all lengths")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    shape = AttentionShape(arguments.heads, arguments.kv_heads, arguments.dim, 1e-5)
    setting = Setting(shape, arguments.page_size, getattr(torch, arguments.dtype), torch.device(arguments.device))
    kernels = kernels_for(setting.device, setting.dtype)
    print(f"{type(kernels).__name__} on {setting.device}, triton {triton.__version__}")
    figures = {"largest_error": check(setting, kernels)} | measure(setting, kernels, arguments.scale, arguments.repeats)
    for name, value in figures.items():
        print(f"{name:50} {value:12.4f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
