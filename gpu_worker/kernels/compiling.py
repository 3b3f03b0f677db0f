"""Compiling kernels for this machine without a compiler installed, and keeping the result on disk.

A kernel is a function of one address: that of an int64 array with its arguments. It claims tasks
until there are none left, so that any number of threads may run it at once.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba import types

Body = Callable[[Any], None]


def cache_in(directory: Path) -> None:
    """Keep machine code under ``directory``, apart for each version of the kernels' sources."""
    digest = hashlib.sha256(numba.__version__.encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    numba.config.CACHE_DIR = str(directory / digest.hexdigest()[:16])  # pyright: ignore[reportAttributeAccessIssue]


class Compiled:
    """Machine code of one kernel."""

    def __init__(self, body: Body) -> None:
        """Compile ``body``, or take it from the cache where :func:`cache_in` was called and it is there."""
        signature = types.void(types.voidptr)
        options = {"nopython": True, "fastmath": True, "error_model": "numpy"}
        cached = bool(numba.config.CACHE_DIR)  # pyright: ignore[reportAttributeAccessIssue]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", numba.NumbaWarning)  # a cache that cannot be written is no fault
            self._function: Any = numba.cfunc(signature, cache=cached, **options)(body)
        self.address: int = self._function.address
