"""The header of a safetensors file: which tensors it holds, and where. Bounds-checked, reads no weights.

For files from strangers: the library that maps them is given a file only after every length, offset, shape and type
in it has been held against the file. Knows nothing of what the tensors mean.
Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

_WIDTHS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
"""Bits of one value."""

_MOST_HEADER = 32 * 2**20  # bytes; that of a model of 100,000 tensors has 15 MB
_MOST_TENSORS = 100_000
_MOST_DIMENSIONS = 8
_MOST_VALUES = 2**48
_METADATA = "__metadata__"


class SafetensorsError(ValueError):
    """Not a safetensors file, or a damaged one."""


class TensorSpan(NamedTuple):
    """One tensor: its shape, its type as the format names it, and its bytes in the file."""

    shape: tuple[int, ...]
    dtype: str
    start: int
    end: int


def read_header(path: Path) -> dict[str, TensorSpan]:
    """The tensors of a file by name. Raises SafetensorsError, OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise SafetensorsError(f"its header would end at byte {8 + length}, the file has {size}")
        if length > _MOST_HEADER:
            raise SafetensorsError(f"its header has {length} bytes, at most {_MOST_HEADER} are read")
        entries = _entries(file.read(length))
    spans = {name: _span(name, entry, 8 + length) for name, entry in entries.items() if name != _METADATA}
    _check_places(spans, 8 + length, size)
    return spans


def _entries(header: bytes) -> Mapping[str, Any]:
    try:
        entries = json.loads(header, object_pairs_hook=_without_duplicates)
    except SafetensorsError:
        raise
    except (ValueError, RecursionError) as error:
        raise SafetensorsError(f"its header is no JSON: {error}") from error
    if not isinstance(entries, dict):
        raise SafetensorsError("its header is no JSON object")
    if len(entries) > _MOST_TENSORS:
        raise SafetensorsError(f"it has {len(entries)} tensors, at most {_MOST_TENSORS} are read")
    return entries


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(again, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise SafetensorsError(f"its header has {again[:200]!r} twice")
    return found


def _span(name: str, entry: Any, start: int) -> TensorSpan:
    where = f"tensor {name[:200]!r}"
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [begin, end]}:
            pass
        case _:
            raise SafetensorsError(f"{where} lacks dtype, shape or two data_offsets")
    if dtype not in _WIDTHS:
        raise SafetensorsError(f"{where} has the unknown type {dtype[:50]!r}")
    if not all(_is_count(number) for number in (*shape, begin, end)) or len(shape) > _MOST_DIMENSIONS:
        raise SafetensorsError(f"{where} has a shape or offsets that make no sense")
    bits = math.prod(shape) * _WIDTHS[dtype]
    if bits != (end - begin) * 8:
        raise SafetensorsError(f"{where} has {end - begin} bytes for the shape {shape} of {dtype}")
    return TensorSpan(tuple(shape), dtype, start + begin, start + end)


def _is_count(number: Any) -> bool:
    return type(number) is int and 0 <= number <= _MOST_VALUES


def _check_places(spans: Mapping[str, TensorSpan], start: int, size: int) -> None:
    """The tensors fill the file: none overlaps another, and nothing lies between or behind them."""
    at = start
    for name, span in sorted(spans.items(), key=lambda item: (item[1].start, item[1].end)):
        if span.start != at:
            what = "overlaps another" if span.start < at else "does not follow the one before it"
            raise SafetensorsError(f"tensor {name[:200]!r} {what}")
        at = span.end
    if at != size:
        raise SafetensorsError(f"its tensors end at byte {at}, the file has {size}")
