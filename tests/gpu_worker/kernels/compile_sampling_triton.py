"""Compiles the sampling kernels to machine code for GPUs, which takes none.

Run by test_sampling_triton.py as a program. The interpreter takes more Python than the compiler does.
"""

from __future__ import annotations

import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from gpu_worker.kernels import sampling_edit_triton, sampling_finish_triton, sampling_scan_triton

INT, INTS, LONG, LONGS, FLOATS, DOUBLES, BYTES = "i32", "*i32", "i64", "*i64", "*fp32", "*fp64", "*i8"
SPLITS, BLOCK, CUTS = 16, 1024, 8

COLUMNS = {"rows": INTS, "ints": INTS, "longs": LONGS, "floats": FLOATS}
SURVEYED = {"best": LONGS, "totals": LONGS, "counts": INTS, "masses": LONGS}
GATHERED = {"found": INTS, "near": FLOATS, "near_tokens": INTS}
ROW = {"lengths": INTS, "history": INTS, "marks": INTS}
SCAN = {"adjusted": FLOATS, "stride": INT}

ADJUST = (
    {"logits": FLOATS, "stride": INT, "adjusted": FLOATS, "rows": INTS, "ints": INTS, "floats": FLOATS}
    | {"doubles": DOUBLES, "lengths": INTS, "marks": INTS, "biases": FLOATS, "pool": INTS, "mask_rows": INTS}
    | {"best": LONGS, "size": INT, "words": INT, "chunk": INT}
)
SURVEY = SCAN | COLUMNS | SURVEYED | {"size": INT, "chunk": INT}
GATHER = SCAN | COLUMNS | SURVEYED | GATHERED | {"size": INT, "chunk": INT, "capacity": INT}
FINISH = (
    SCAN | COLUMNS | ROW | {"best": LONGS, "totals": LONGS} | GATHERED | {"tokens": LONGS, "ok": BYTES}
    | {"size": INT, "chunk": INT, "capacity": INT, "positions": INT}
)  # fmt: skip
ALL = {"ADJUSTS": True, "MASKS": True, "STORES": True}
FINISHING = {"SPLITS": SPLITS, "WIDTH": 64, "BLOCK": BLOCK}
UNCUT = {"SPLITS": 1, "WIDTH": 1024, "BLOCK": BLOCK}

VARIANTS: tuple[tuple[Any, dict[str, str], dict[str, Any], int], ...] = (
    (sampling_scan_triton.adjust, ADJUST, ALL | {"COPIES": False, "SPLITS": SPLITS, "BLOCK": BLOCK}, 4),
    (
        sampling_scan_triton.adjust,
        ADJUST | {"logits": "*bf16"},
        ALL | {"COPIES": True, "SPLITS": 1, "BLOCK": BLOCK},
        4,
    ),
    (
        sampling_scan_triton.adjust,
        ADJUST | {"words": "constexpr"},  # Triton makes a constant of an integer that is 1
        ALL | {"COPIES": False, "SPLITS": 1, "BLOCK": BLOCK, "words": 1},
        4,
    ),
    (
        sampling_scan_triton.adjust,
        ADJUST,
        dict.fromkeys((*ALL, "COPIES"), False) | {"SPLITS": 64, "BLOCK": BLOCK},
        4,
    ),
    (sampling_scan_triton.survey, SURVEY, {"TRUNCATES": True, "CUTS": CUTS, "SPLITS": SPLITS, "BLOCK": 512}, 8),
    (sampling_scan_triton.survey, SURVEY, {"TRUNCATES": False, "CUTS": CUTS, "SPLITS": SPLITS, "BLOCK": 512}, 8),
    (sampling_scan_triton.gather, GATHER, {"CUTS": CUTS, "SPLITS": SPLITS, "BLOCK": BLOCK}, 4),
    (sampling_finish_triton.finish, FINISH, {"DRAWS": True, "TRUNCATES": True} | FINISHING, 8),
    (sampling_finish_triton.finish, FINISH, {"DRAWS": True, "TRUNCATES": True} | UNCUT, 8),
    (sampling_finish_triton.finish, FINISH, {"DRAWS": True, "TRUNCATES": False} | FINISHING, 8),
    (sampling_finish_triton.finish, FINISH, {"DRAWS": False, "TRUNCATES": False} | FINISHING, 8),
    (
        sampling_edit_triton.put_entries,
        {"slots": LONGS, "offsets": INTS, "entry_tokens": INTS, "entry_biases": FLOATS}
        | {"marks": INTS, "biases": FLOATS, "size": INT},
        {"BLOCK": BLOCK},
        4,
    ),
    (
        sampling_edit_triton.take_back,
        {"slots": LONGS, "starts": INTS, "ints": INTS} | ROW | {"size": INT, "positions": INT},
        {"BLOCK": BLOCK},
        4,
    ),
    (
        sampling_edit_triton.put_tokens,
        {"slots": LONGS, "starts": INTS, "offsets": INTS, "tokens": INTS, "ints": INTS}
        | ROW
        | {"size": INT, "positions": INT},
        {"BLOCK": BLOCK},
        4,
    ),
)  # fmt: skip

for kernel, signature, constants, warps in VARIANTS:
    kinds = {name: signature.get(name, "constexpr") for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=kinds, constexprs=constants)
    for capability in (80, 90):
        compiled: Any = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps})
        assert compiled.asm["cubin"]
        sys.stdout.write(f"compiled {kernel.__name__} {capability} shared {compiled.metadata.shared}\n")
