"""Single operations of one layer beside the bytes they move and the operations they do."""

from __future__ import annotations

import msgspec
import torch

from benchmarks.gpu import floors
from benchmarks.gpu.batches import PAGE_SIZE, decode_batch, filled_pool, pages_for, prefill_batch
from benchmarks.gpu.floors import Work
from benchmarks.gpu.options import Emit, Options
from benchmarks.gpu.rows import Row
from benchmarks.gpu.timing import Call
from gpu_worker.flat_batch import FlatBatch
from gpu_worker.kernels.interface import AttentionShape, HeadNorms, Kernels
from gpu_worker.kernels.selection import kernels_for
from gpu_worker.kv_pool import KVPool
from gpu_worker.models.config import ModelConfig
from gpu_worker.models.rope import inverse_frequencies


@torch.inference_mode()
def measure(options: Options, emit: Emit, *, shape: str) -> None:
    """For several numbers of tokens, and attention for the decode cases and a long prompt."""
    config = one_layer(options, shape)
    kernels = kernels_for(options.torch_device, options.dtype)
    for tokens in options.sizes.tokens:
        _elementwise(options, emit, kernels, config, tokens)
        _products(options, emit, kernels, config, tokens)
    _attention(options, emit, kernels, config)


def one_layer(options: Options, shape: str) -> ModelConfig:
    """The shape with a single layer: a kernel sees no others."""
    return msgspec.structs.replace(
        options.sizes, shapes={shape: options.sizes.shapes[shape] | {"num_hidden_layers": 1}}
    ).config(shape)


def attending(kernels: Kernels, config: ModelConfig, batch: FlatBatch, pool: KVPool, dtype: torch.dtype) -> Call:
    """The attention of one layer, rotary embedding and writing of KV included."""
    device = batch.input_ids.device
    shape = AttentionShape(config.num_heads, config.num_kv_heads, config.head_dim, config.rms_norm_eps)
    frequencies = inverse_frequencies(config.rope, config.head_dim).to(device)
    ones = torch.ones(config.head_dim, dtype=dtype, device=device)
    norms = HeadNorms(ones, ones) if config.qk_norm else None
    qkv = torch.randn(len(batch.input_ids), config.q_size + 2 * config.kv_size, dtype=dtype, device=device)
    prepared = kernels.attention(shape, batch, frequencies, 1.0, pool)
    return lambda: prepared.attend(qkv, 0, None, norms)


def _elementwise(options: Options, emit: Emit, kernels: Kernels, config: ModelConfig, tokens: int) -> None:
    device, dtype, timer = options.torch_device, options.dtype, options.timer()
    hidden, inner, size = config.hidden_size, config.intermediate_size, options.dtype.itemsize
    x, residual = (torch.randn(tokens, hidden, dtype=dtype, device=device) for _ in range(2))
    weight = torch.ones(hidden, dtype=dtype, device=device)
    gate_up = torch.randn(tokens, 2 * inner, dtype=dtype, device=device)
    cases: dict[str, tuple[Call, int]] = {
        "rms_norm": (lambda: kernels.rms_norm(x, weight, 1e-5), 2 * hidden),
        "add_rms_norm": (lambda: kernels.add_rms_norm(x, residual, weight, 1e-5), 4 * hidden),
        "silu_mul": (lambda: kernels.silu_mul(gate_up), 3 * inner),
    }
    for name, (run, moved) in cases.items():
        emit(Row(f"kernels/{name}/{tokens} tokens", timer.seconds(run), work=Work(tokens * moved * size)))
    batch = decode_batch(tokens, 1, config, device)
    pool = filled_pool(config, tokens, dtype, device)
    work = floors.decode_attention(config, [1] * tokens, size)
    run = attending(kernels, config, batch, pool, dtype)
    note = "attention to one token"
    emit(Row(f"kernels/rope and KV/{tokens} tokens", timer.seconds(run), work=work, note=note))


def _products(options: Options, emit: Emit, kernels: Kernels, config: ModelConfig, tokens: int) -> None:
    device, dtype, hidden = options.torch_device, options.dtype, config.hidden_size
    for name, inputs, outputs in (
        ("qkv", hidden, config.q_size + 2 * config.kv_size),
        ("gate_up", hidden, 2 * config.intermediate_size),
        ("down", config.intermediate_size, hidden),
    ):
        linear = kernels.linear(torch.randn(outputs, inputs, dtype=dtype, device=device), None)
        x = torch.randn(tokens, inputs, dtype=dtype, device=device)
        seconds = options.timer().seconds(lambda linear=linear, x=x: linear(x))
        work = floors.product(tokens, inputs, outputs, dtype.itemsize)
        emit(Row(f"kernels/{name} product/{tokens} tokens", seconds, work=work))


def _attention(options: Options, emit: Emit, kernels: Kernels, config: ModelConfig) -> None:
    sizes, device, dtype, timer = options.sizes, options.torch_device, options.dtype, options.timer()
    most = max([pages_for(rows, context) for rows, context in sizes.decodes] + [-(-sizes.prefill // PAGE_SIZE)])
    pool = filled_pool(config, most, dtype, device)
    for rows, context in sizes.decodes:
        batch = decode_batch(rows, context, config, device)
        seconds = timer.seconds(attending(kernels, config, batch, pool, dtype))
        work = floors.decode_attention(config, [context] * rows, dtype.itemsize)
        emit(Row(f"kernels/decode attention/{rows}x{context}", seconds, work=work))
    for new in (sizes.prefill, sizes.chunk):
        batch = prefill_batch(new, sizes.prefill - new, config, device)
        seconds = timer.seconds(attending(kernels, config, batch, pool, dtype))
        work = floors.prefill_attention(config, new, sizes.prefill - new, dtype.itemsize)
        emit(Row(f"kernels/prefill attention/{new} of {sizes.prefill}", seconds, work=work))
