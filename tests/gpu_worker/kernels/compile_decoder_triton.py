"""Compiles the Triton kernels of the decoder to machine code for GPUs, which takes none: run by test_decoder_triton.py.

    python -m tests.gpu_worker.kernels.compile_decoder_triton

Prints one line a kernel: its name, the shape, shared memory and, where the compiler's own tool tells them, registers
and spilled bytes. Fails where a kernel needs more shared memory than a program may use.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from gpu_worker.kernels import (
    attention_decode_triton,
    attention_extend_triton,
    rms_norm_triton,
    rotary_triton,
    silu_mul_triton,
)
from gpu_worker.kernels.interface import AttentionShape
from gpu_worker.kernels.tiling import Target, padded, tiling_for

SHARED_BYTES = {80: 163 * 1024, 86: 99 * 1024, 90: 227 * 1024}
LLAMA_8B, QWEN_7B = AttentionShape(32, 8, 128, 1e-5), AttentionShape(28, 4, 128, 1e-6)
SMOLLM, WIDE = AttentionShape(9, 3, 64, 1e-5), AttentionShape(16, 8, 256, 1e-6)
ODD, EIGHTY = AttentionShape(32, 32, 96, 1e-5), AttentionShape(32, 8, 80, 1e-5)
SHAPES = {
    90: (LLAMA_8B, QWEN_7B, SMOLLM, ODD, EIGHTY, WIDE),
    80: (LLAMA_8B, WIDE),
    86: (LLAMA_8B, WIDE),
}
KINDS = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
INT, FLOAT, INTS, LONGS, FLOATS = "i32", "fp32", "*i32", "*i64", "*fp32"


class Kernel(NamedTuple):
    function: Any
    signature: dict[str, str]
    constants: dict[str, Any]
    options: dict[str, int]


def attention(
    shape: AttentionShape, dtype: torch.dtype, target: Target, *, window: bool = False, page: int = 16
) -> Iterator[Kernel]:
    tiling = tiling_for(shape, dtype, target)
    data = f"*{KINDS[dtype]}"
    _, kv_heads, dim, _ = shape
    pool = {"KV_HEADS": kv_heads, "D": dim, "PAGE": page, "KEYS_BY_TOKEN": True}
    blocks = pool | {"GROUP": tiling.group, "D_PAD": max(16, padded(dim)), "WINDOWED": window}
    numbers = {"table_width": INT, "window": INT, "scale": FLOAT}
    for launch, function, signature, more in (
        (
            tiling.extend,
            attention_extend_triton.attend_tiles,
            {"qkv": data, "out": data, "tiles": INTS, "tables": INTS, "keys": data, "values": data} | numbers,
            {},
        ),
        (
            tiling.decode,
            attention_decode_triton.attend_items,
            {"qkv": data, "out": data, "sums": FLOATS, "logs": FLOATS, "positions": LONGS, "header": INTS}
            | {"items": INTS, "members": INTS, "tables": INTS, "keys": data, "values": data}
            | numbers,
            {"M_OWN": tiling.own_rows},
        ),
    ):
        options = {"num_warps": launch.num_warps, "num_stages": launch.num_stages}
        yield Kernel(function, signature, blocks | more | {"M": launch.rows, "N": launch.keys}, options)


def others(shape: AttentionShape, dtype: torch.dtype) -> Iterator[Kernel]:
    data, (heads, kv_heads, dim, _) = f"*{KINDS[dtype]}", shape
    yield Kernel(
        attention_decode_triton.merge_partials,
        {"out": data, "sums": FLOATS, "logs": FLOATS, "header": INTS, "merged": INTS, "offsets": INTS}
        | {"partials": INTS},
        {"HEADS": heads, "D": dim, "D_PAD": max(16, padded(dim)), "BLOCK": 16},
        {},
    )
    yield Kernel(
        rotary_triton.cos_sin_table,
        {"cos": FLOATS, "sin": FLOATS, "positions": LONGS, "frequencies": FLOATS, "scale": FLOAT, "size": INT},
        {"HALF": dim // 2, "BLOCK": 1024},
        {},
    )
    for normed in (False, True):
        yield Kernel(
            rotary_triton.rotate_and_store,
            {"qkv": data, "cos": FLOATS, "sin": FLOATS, "slots": LONGS, "keys": data, "values": data}
            | {"q_norm": data, "k_norm": data, "eps": FLOAT, "size": INT},
            {"KV_HEADS": kv_heads, "D": dim, "PAGE": 16, "KEYS_BY_TOKEN": True, "HEADS": heads}
            | {"HALF_PAD": padded(dim // 2), "BLOCK": 32, "NORMED": normed},
            {},
        )
    for adding in (False, True):
        yield Kernel(
            rms_norm_triton.rms_norm,
            {"x": data, "residual": data, "weight": data, "out": data, "eps": FLOAT},
            {"H": heads * dim, "BLOCK": padded(heads * dim), "ADDING": adding},
            {"num_warps": 8},
        )
    yield Kernel(silu_mul_triton.silu_mul, {"gate_up": data, "out": data}, {"INNER": 14_336, "BLOCK": 1024}, {})


def compiled(kernel: Kernel, capability: int) -> Any:
    """Pointers divisible by 16 bytes, as torch allocates them."""
    signature = kernel.signature | dict.fromkeys(kernel.constants, "constexpr")
    names = kernel.function.arg_names
    aligned = {(names.index(name),): [["tt.divisibility", 16]] for name, kind in signature.items() if kind[0] == "*"}
    signature = {name: signature[name] for name in names}
    source = ASTSource(fn=kernel.function, signature=signature, constexprs=kernel.constants, attrs=aligned)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=kernel.options)


def resources(cubin: bytes) -> str:
    """Registers and spilled bytes (STACK), as cuobjdump prints them."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        tool = knobs.nvidia.cuobjdump.path
        shown = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True)
    line = next(line for line in shown.stdout.splitlines() if "REG:" in line)
    return " ".join(part for part in line.split() if part.startswith(("REG", "STACK", "LOCAL")))


def main() -> None:
    done = 0
    for capability, shapes in SHAPES.items():
        target, few = Target(132, SHARED_BYTES[capability]), capability != 90
        wanted = [kernel for shape in shapes for kernel in attention(shape, torch.bfloat16, target)]
        if few:
            wanted += attention(LLAMA_8B, torch.float32, target)
        else:
            wanted += attention(LLAMA_8B, torch.bfloat16, target, window=True, page=5)
            wanted += others(LLAMA_8B, torch.bfloat16)
        for kernel in wanted:
            result = compiled(kernel, capability)
            shared = result.metadata.shared
            assert result.asm["cubin"]
            assert shared <= target.shared_bytes, f"{kernel} takes {shared} bytes"
            name = f"{kernel.function.__name__} D {kernel.constants.get('D')} group {kernel.constants.get('GROUP')}"
            sys.stdout.write(f"sm_{capability} {name}: {shared} {resources(result.asm['cubin'])}\n")
            done += 1
    sys.stdout.write(f"compiled {done}\n")


if __name__ == "__main__":
    main()
