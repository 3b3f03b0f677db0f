"""How wide this machine's vector registers are."""

from __future__ import annotations

from llvmlite import binding


def _vector_lanes() -> tuple[int, int]:
    features = binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 16, 24
    if features.get("avx2"):
        return 8, 12
    return 4, 20 if features.get("neon") else 10


LANES, ACCUMULATORS = _vector_lanes()
"""float32 lanes of a vector register, and how many accumulators fit beside operands."""

INT8_DOTS = bool(binding.get_host_cpu_features().get("avx512vnni"))
"""Whether four products of bytes are summed by one instruction here."""
BFLOAT16_DOTS = bool(binding.get_host_cpu_features().get("avx512bf16"))
"""Whether two products of bfloat16 are summed by one instruction here."""
