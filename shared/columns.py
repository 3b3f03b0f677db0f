"""Packed columns: little-endian numeric arrays as bytes, as they travel in messages."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]
UInt64 = NDArray[np.uint64]
UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]


def int32(values: Iterable[int]) -> bytes:
    """Pack integers as little-endian int32."""
    return array("i", values).tobytes()


def uint64(values: Iterable[int]) -> bytes:
    """Pack integers as little-endian uint64."""
    return array("Q", values).tobytes()


def uint8(values: Iterable[int]) -> bytes:
    """Pack integers as bytes."""
    return bytes(values)


def as_int32(data: bytes) -> Int32:
    """A read-only view of packed int32."""
    return np.frombuffer(data, dtype="<i4")


def as_uint64(data: bytes) -> UInt64:
    """A read-only view of packed uint64."""
    return np.frombuffer(data, dtype="<u8")


def as_uint8(data: bytes) -> UInt8:
    """A read-only view of bytes."""
    return np.frombuffer(data, dtype="u1")


def as_float32(data: bytes) -> Float32:
    """A read-only view of packed float32."""
    return np.frombuffer(data, dtype="<f4")


def ints(data: bytes) -> list[int]:
    """Packed int32 as a list: for short columns half the time of a view's ``tolist()``, and no numpy."""
    return memoryview(data).cast("i").tolist()


def longs(data: bytes) -> list[int]:
    """Packed uint64 as a list."""
    return memoryview(data).cast("Q").tolist()
