"""The compiled kernels on a processor with AVX2 and nothing newer, as far as one that has more can tell."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from llvmlite import binding

from tests.gpu_worker.kernels.child import ROOT, run

FEATURES = ("avx", "avx2", "fma", "f16c", "bmi", "bmi2", "sse4.2", "popcnt")


def test_products_and_models_without_avx512(tmp_path: Path) -> None:
    host = binding.get_host_cpu_features()
    if platform.machine() != "x86_64" or not all(host.get(feature) for feature in FEATURES):
        pytest.skip("needs an x86 processor with AVX2")
    run(
        "tests.gpu_worker.kernels.narrow_vectors",
        NUMBA_CPU_NAME="haswell",
        NUMBA_CPU_FEATURES=",".join(f"+{feature}" for feature in FEATURES),
        NUMBA_CACHE_DIR=str(tmp_path),
        PYTHONPATH=str(ROOT),
    )
