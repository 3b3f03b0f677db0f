"""Plain tables of transitions in the form that travels to the workers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.grammar import Dfa, tables


def packed(table: NDArray[np.int64], accepting: NDArray[np.uint8]) -> Dfa:
    """``table`` [S, 256]: the state after each byte; bytes that never differ become one class."""
    columns, classes = np.unique(table, axis=1, return_inverse=True)
    packed = np.ascontiguousarray(columns).astype("<u2")
    return Dfa(classes.astype(np.uint8).tobytes(), columns.shape[1], packed.tobytes(), accepting.tobytes())


def unpacked(dfa: Dfa) -> NDArray[np.int64]:
    """[S, 256]: the state after each byte."""
    classes, transitions, _ = tables(dfa)
    return transitions[:, classes].astype(np.int64)
