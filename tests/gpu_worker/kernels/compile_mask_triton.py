"""Compiles the Triton kernels to machine code for a GPU, which takes none: run by test_mask_triton.py as a program.

The interpreter takes more Python than the compiler does.
"""

from __future__ import annotations

import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from gpu_worker.kernels import mask_triton

INT, INTS, LONGS, SHORTS, BYTES = "i32", "*i32", "*i64", "*i16", "*u8"
KERNELS: tuple[tuple[Any, dict[str, str], int], ...] = (
    (mask_triton.apply_rows, {"logits": "*fp32", "pool": INTS, "rows": INTS, "size": INT, "words": INT}, 1024),
    (
        mask_triton.build_rows,
        {"pool": INTS, "targets": INTS, "states": INTS, "transitions": SHORTS, "num_classes": INT, "classes": BYTES}
        | {"token_bytes": BYTES, "token_starts": INTS, "size": INT, "words": INT},
        1024,
    ),
    (
        mask_triton.advance,
        {"after": INTS, "states": INTS, "tokens": LONGS, "which": INTS}
        | {"transitions": SHORTS, "offsets": LONGS, "num_classes": INTS, "classes": BYTES}
        | {"token_bytes": BYTES, "token_starts": INTS, "rows": INT},
        32,
    ),
)

for kernel, signature, block in KERNELS:
    for one in (False, True):  # Triton makes a constant of an integer that is 1
        ones = {name: 1 for name, kind in signature.items() if one and kind == INT}
        kinds = {name: "constexpr" if name in ones else kind for name, kind in signature.items()}
        source = ASTSource(fn=kernel, signature=kinds | {"BLOCK": "constexpr"}, constexprs=ones | {"BLOCK": block})
        compiled: Any = triton.compile(source, target=GPUTarget("cuda", 80, 32))
        assert compiled.asm["cubin"]
        sys.stdout.write(f"compiled {kernel.__name__}\n")
