"""RMSNorm on a GPU, alone and after a residual addition: one program per token, rounding as the plain one."""

# pyright: reportPrivateImportUsage=false, reportMissingParameterType=false
# (an annotation would be read as part of the kernel)

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def rms_norm(
    x,
    residual,
    weight,
    out,
    eps,
    H: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
    ADDING: tl.constexpr,  # noqa: N803
):
    """The norm of ``x``, or of ``residual`` after ``x`` was added to it in place. Grid (T,); all [T, H], weight [H]."""
    at = tl.arange(0, BLOCK)
    inside = at < H
    begin = tl.program_id(0).to(tl.int64) * H
    value = tl.load(x + begin + at, mask=inside, other=0.0)
    dtype = value.dtype
    if ADDING:
        before = tl.load(residual + begin + at, mask=inside, other=0.0)
        value = (value.to(tl.float32) + before.to(tl.float32)).to(dtype)
        tl.store(residual + begin + at, value, mask=inside)
    wide = value.to(tl.float32)
    normed = (wide * tl.rsqrt(tl.sum(wide * wide, 0) / H + eps)).to(dtype)
    scaled = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32) * normed.to(tl.float32)
    tl.store(out + begin + at, scaled.to(dtype), mask=inside)
