"""Compiled kernels are kept between test runs where the product keeps them."""

from __future__ import annotations

import pytest

from gpu_worker.kernels.compiling import cache_in
from shared.config import Settings


@pytest.fixture(scope="session", autouse=True)
def kernel_cache() -> None:
    """Without it every run compiles dozens of shapes anew."""
    cache_in(Settings().cache_path / "kernels")
