"""The header of a GGUF file: its metadata, and where each tensor's bytes are. Bounds-checked, reads no weights.

Written for start-up time (49,000 vocabulary strings are skipped, not decoded) and for files from strangers: every
length is checked against the file before it is believed.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MOST_TENSORS = 100_000
_MOST_FIELDS = 10_000
_MOST_DIMENSIONS = 4
_MOST_HEADER = 256 * 2**20  # bytes
_MOST_ITEMS = 2**23  # of one array; the largest vocabularies have 2**18
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING = 8
_ARRAY = 9


class GGUFError(ValueError):
    """Not a GGUF file, or a damaged one."""


class TensorEntry(NamedTuple):
    """One tensor: its name, shape (rows first, as numpy has it), ggml type and offset in the file."""

    name: str
    shape: tuple[int, ...]
    ggml_type: int
    offset: int

    @property
    def num_values(self) -> int:
        """How many values it holds."""
        return math.prod(self.shape)


class GGUFHeader(NamedTuple):
    """Everything before the weights."""

    metadata: dict[str, Any]
    tensors: dict[str, TensorEntry]


def read_header(path: Path, wanted: Callable[[str], bool] = lambda _: True) -> GGUFHeader:
    """Parse the header, keeping the metadata whose key is ``wanted``. Raises GGUFError, OSError."""
    with path.open("rb") as file:
        if path.stat().st_size < 24:
            raise GGUFError("the file is too short to be GGUF")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Cursor(data).header(wanted)


class _Cursor:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._size = len(data)
        self._at = 0

    def header(self, wanted: Callable[[str], bool]) -> GGUFHeader:
        if self._take(4) != _MAGIC:
            raise GGUFError("the file does not start with GGUF")
        version = self._scalar("<I")
        if version not in _VERSIONS:
            raise GGUFError(f"GGUF version {version} is not supported, only 2 and 3")
        num_tensors = self._count("<Q", _MOST_TENSORS, "tensors")
        num_fields = self._count("<Q", _MOST_FIELDS, "metadata fields")
        metadata: dict[str, Any] = {}
        alignment = 32
        for _ in range(num_fields):
            key = self._string()
            keep = wanted(key) or key == "general.alignment"
            value = self._value(self._scalar("<I"), keep=keep)
            if key == "general.alignment":
                alignment = value
            if keep:
                metadata[key] = value
        if not isinstance(alignment, int) or not 1 <= alignment <= 2**20:
            raise GGUFError(f"alignment {alignment!r} makes no sense")
        entries = [self._tensor() for _ in range(num_tensors)]
        start = -(-self._at // alignment) * alignment
        tensors = {entry.name: entry._replace(offset=start + entry.offset) for entry in entries}
        if len(tensors) < len(entries):
            raise GGUFError("two tensors have one name")
        for entry in tensors.values():
            if entry.offset > self._size:
                raise GGUFError(f"tensor {entry.name[:200]} lies beyond the end of the file")
        return GGUFHeader(metadata, tensors)

    def _tensor(self) -> TensorEntry:
        name = self._string()
        dimensions = self._count("<I", _MOST_DIMENSIONS, "dimensions")
        shape = tuple(self._count("<Q", 2**40, "values in a dimension") for _ in range(dimensions))
        if not shape or 0 in shape:
            raise GGUFError(f"tensor {name[:200]} has the shape {shape}: it holds nothing")
        return TensorEntry(name, shape[::-1], self._scalar("<I"), self._scalar("<Q"))

    def _value(self, kind: int, *, keep: bool) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array(keep=keep)
        return self._scalar(self._format(kind))

    def _array(self, *, keep: bool) -> list[Any] | None:
        kind = self._scalar("<I")
        if kind == _STRING:
            count = self._count("<Q", min(_MOST_ITEMS, self._size // 8), "strings")
            if keep:
                return [self._string() for _ in range(count)]
            for _ in range(count):
                self._skip_string()
            return None
        layout = self._format(kind)
        width = struct.calcsize(layout)
        count = self._count("<Q", min(_MOST_ITEMS, self._size // width), "array values")
        packed = self._take(count * width)
        return list(struct.unpack(f"<{count}{layout[1]}", packed)) if keep else None

    def _format(self, kind: int) -> str:
        if kind not in _SCALARS:
            raise GGUFError(f"metadata of unknown type {kind}")
        return _SCALARS[kind]

    def _count(self, layout: str, most: int, what: str) -> int:
        count = self._scalar(layout)
        if count > most:
            raise GGUFError(f"{count} {what}: the file is damaged")
        return count

    def _string(self) -> str:
        try:
            return self._take(self._scalar("<Q")).decode()
        except UnicodeDecodeError as error:
            raise GGUFError(f"a string is not UTF-8: {error}") from error

    def _skip_string(self) -> None:
        length = self._scalar("<Q")
        self._check(length)
        self._at += length

    def _scalar(self, layout: str) -> Any:
        width = struct.calcsize(layout)
        self._check(width)
        [value] = struct.unpack_from(layout, self._data, self._at)
        self._at += width
        return value

    def _take(self, length: int) -> bytes:
        self._check(length)
        self._at += length
        return self._data[self._at - length : self._at]

    def _check(self, length: int) -> None:
        if length > self._size - self._at:
            raise GGUFError("the file ends in the middle of its header")
        if self._at + length > _MOST_HEADER:
            raise GGUFError(f"its header has more than {_MOST_HEADER} bytes")
