"""The gated activation of the feed-forward block on a GPU, rounding as the plain one."""

# pyright: reportPrivateImportUsage=false, reportMissingParameterType=false
# (an annotation would be read as part of the kernel)

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def silu_mul(
    gate_up,
    out,
    INNER: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    """[T, 2 INNER] -> [T, INNER]. Grid (T, ceil(INNER / BLOCK))."""
    token = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < INNER
    gate = tl.load(gate_up + token * (2 * INNER) + at, mask=inside, other=0.0)
    up = tl.load(gate_up + token * (2 * INNER) + INNER + at, mask=inside, other=0.0)
    wide = gate.to(tl.float32)
    activated = (wide / (1.0 + tl.exp(-wide))).to(gate.dtype)
    tl.store(out + token * INNER + at, (activated.to(tl.float32) * up.to(tl.float32)).to(gate.dtype), mask=inside)
