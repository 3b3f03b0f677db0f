"""Whole steps of a decoder with random weights: decoding against weights and KV, prefill against the matrix rate."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch

from benchmarks.gpu import floors
from benchmarks.gpu.batches import PAGE_SIZE, decode_batch, filled_pool, pages_for, prefill_batch
from benchmarks.gpu.options import Emit, Options
from benchmarks.gpu.rows import Row
from benchmarks.gpu.timing import Call, captured
from gpu_worker.dummy_weights import DummyWeights
from gpu_worker.flat_batch import FlatBatch
from gpu_worker.kernels.selection import kernels_for
from gpu_worker.kv_pool import KVPool
from gpu_worker.loader import build_decoder
from gpu_worker.models.decoder import Decoder


class Case(NamedTuple):
    """A decode step."""

    rows: int
    context: int
    shared: int = 0  # tokens that lie on common pages
    noticed: bool = True  # whether attention is told of them


def measure(options: Options, emit: Emit, *, shape: str) -> None:
    """Decode steps run as the engine runs them: as a CUDA graph where the kernels allow it."""
    sizes, device, dtype, timer = options.sizes, options.torch_device, options.dtype, options.timer()
    config = sizes.config(shape)
    begin = time.perf_counter()
    decoder = build_decoder(DummyWeights(config, device, dtype), kernels_for(device, dtype), device, dtype)
    if timer.on_cuda:
        torch.cuda.synchronize()
    emit(Row(f"decode/{shape}/weights made", time.perf_counter() - begin))
    cases = {f"{rows}x{context}": Case(rows, context) for rows, context in sizes.decodes}
    many, context = max(sizes.degrees), sizes.prefix + sizes.tail
    cases[f"{many} share {sizes.prefix}"] = Case(many, context, sizes.prefix)
    cases[f"{many} share {sizes.prefix}, not noticed"] = Case(many, context, sizes.prefix, noticed=False)
    most = max([pages_for(*case[:3]) for case in cases.values()] + [-(-sizes.prefill // PAGE_SIZE)])
    pool = filled_pool(config, most, dtype, device)
    for name, case in cases.items():
        batch = decode_batch(case.rows, case.context, config, device, shared=case.shared, noticed=case.noticed)
        run, note = _step(decoder, batch, pool) if timer.on_cuda else (_eager(decoder, batch, pool), "")
        work = floors.decode_step(config, [case.context] * case.rows, dtype.itemsize, case.shared)
        emit(Row(f"decode/{shape}/{name}", timer.seconds(run), work=work, note=note))
    _prefill(options, emit, shape, decoder, pool)


def _prefill(options: Options, emit: Emit, shape: str, decoder: Decoder, pool: KVPool) -> None:
    """The whole prompt at once, and a chunk at its end."""
    sizes, config = options.sizes, decoder.config
    for new in (sizes.prefill, sizes.chunk):
        batch = prefill_batch(new, sizes.prefill - new, config, decoder.device)
        seconds = options.timer().seconds(_eager(decoder, batch, pool))
        work = floors.prefill_step(config, new, sizes.prefill - new, decoder.dtype.itemsize)
        of = "" if new == sizes.prefill else f" of {sizes.prefill}"
        emit(Row(f"prefill/{shape}/{new}{of}", seconds, work=work, note=f"{new / seconds:,.0f} tokens/s"))


def _eager(decoder: Decoder, batch: FlatBatch, pool: KVPool) -> Call:
    return lambda: decoder.forward(batch, pool)


def _step(decoder: Decoder, batch: FlatBatch, pool: KVPool) -> tuple[Call, str]:
    """A decode step on a GPU, and how it runs."""
    plan = decoder.attention_plan(PAGE_SIZE, batch.num_decodes)
    if plan is None:
        return _eager(decoder, batch, pool), "launched one by one: no plan to capture"
    plan.fill(batch)
    run = _eager(decoder, batch._replace(plan=plan), pool)
    try:
        return captured(run), ""
    except RuntimeError as error:
        return run, f"launched one by one: {str(error).splitlines()[0][:60]}"
