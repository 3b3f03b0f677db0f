"""Compiling kernels for this machine without a compiler installed, and keeping the result on disk.

A kernel is a function of one address: that of an int64 array with its arguments. It claims tasks
until there are none left, so that any number of threads may run it at once.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba import types
from numba.core import config as numba_config

config: Any = numba_config  # numba's settings are attributes of a module

Body = Callable[[Any], None]


def cache_in(directory: Path) -> bool:
    """Keep machine code under ``directory``, apart for each version of the kernels' sources.

    False where it cannot be written: then kernels are compiled anew in every process.
    """
    digest = hashlib.sha256(numba.__version__.encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    versioned = directory / digest.hexdigest()[:16]
    try:
        versioned.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    if not os.access(versioned, os.W_OK | os.X_OK):
        return False
    config.CACHE_DIR = str(versioned)
    return True


class Compiled:
    """Machine code of one kernel."""

    def __init__(self, body: Body) -> None:
        """Compile ``body``, or take it from the cache where :func:`cache_in` was called and it is there."""
        signature = types.void(types.voidptr)
        cached = bool(config.CACHE_DIR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", numba.NumbaWarning)  # a cache that cannot be written is no fault
            self._function: Any = numba.cfunc(signature, cache=cached, fastmath=True, error_model="numpy")(body)
        self.address: int = self._function.address
