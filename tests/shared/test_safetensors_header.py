"""The safetensors header reader: agrees with the library on good files, and refuses damage with one error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from shared.safetensors_header import SafetensorsError, read_header

TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def write(path: Path, header: Any, data: bytes = bytes(8), length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("safetensors") / "small.safetensors"
    save_file({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(5, np.int16)}, path, {"format": "pt"})
    return path


def test_it_agrees_with_the_library(toy_model: Path, small: Path) -> None:
    for path in (toy_model / "model.safetensors", small):
        spans = read_header(path)
        with safe_open(path, framework="np") as library:
            assert set(spans) == set(library.keys())
            for name, span in spans.items():
                tensor = library.get_tensor(name)
                assert span.shape == tensor.shape
                assert path.read_bytes()[span.start : span.end] == tensor.tobytes()


def of_shape(number: bytes) -> bytes:
    return b'{"a":{"dtype":"F32","shape":[%s],"data_offsets":[0,8]}}' % number


DAMAGE: list[tuple[str, Any, str]] = [
    ("no object", [], "no JSON object"),
    ("no JSON", b"{", "no JSON"),
    ("no UTF-8", b"\xff{}", "no JSON"),
    ("deep", b"[" * 100_000, "no JSON"),
    ("entry", {"a": 1}, "lacks dtype"),
    ("missing", {"a": {"dtype": "F32", "shape": [2]}}, "lacks dtype"),
    ("three offsets", {"a": TENSOR | {"data_offsets": [0, 4, 8]}}, "lacks dtype"),
    ("type", {"a": TENSOR | {"dtype": "F99"}}, "unknown type"),
    ("shape too large", {"a": TENSOR | {"shape": [3]}}, "8 bytes for the shape"),
    ("product", {"a": TENSOR | {"shape": [2**40, 2**40]}}, "8 bytes for the shape"),
    ("huge dimension", {"a": TENSOR | {"shape": [2**63]}}, "no sense"),
    ("a thousand digits", of_shape(b"9" * 1000), "no sense"),
    ("digits without end", of_shape(b"9" * 9000), "no JSON|sense"),
    ("negative", {"a": TENSOR | {"shape": [-2]}}, "no sense"),
    ("negative offset", {"a": TENSOR | {"data_offsets": [-8, 0]}}, "no sense"),
    ("backwards", {"a": TENSOR | {"data_offsets": [8, 0]}}, "-8 bytes"),
    ("text", {"a": TENSOR | {"shape": ["2"]}}, "no sense"),
    ("fraction", {"a": TENSOR | {"shape": [2.0]}}, "no sense"),
    ("truth", {"a": TENSOR | {"shape": [True, 2]}}, "no sense"),
    ("dimensions", {"a": TENSOR | {"shape": [2] + [1] * 20}}, "no sense"),
    ("beyond", {"a": TENSOR | {"data_offsets": [8, 16]}}, "does not follow"),
    ("overlap", {"a": TENSOR, "b": TENSOR | {"data_offsets": [4, 12]}}, "overlaps"),
    ("the same twice", {"a": TENSOR, "b": TENSOR}, "overlaps"),
    ("surplus", {"a": TENSOR | {"shape": [1], "data_offsets": [0, 4]}}, "end at byte"),
    ("nothing", {}, "end at byte"),
    ("duplicate", b'{"a":%s,"a":%s}' % ((json.dumps(TENSOR).encode(),) * 2), "twice"),
]  # fmt: skip


@pytest.mark.parametrize(("header", "reason"), [case[1:] for case in DAMAGE], ids=[case[0] for case in DAMAGE])
def test_damage_is_named(tmp_path: Path, header: Any, reason: str) -> None:
    with pytest.raises(SafetensorsError, match=reason):
        read_header(write(tmp_path / "x.safetensors", header))


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 10**9, 9])
def test_a_length_beyond_the_file_is_not_believed(tmp_path: Path, length: int) -> None:
    with pytest.raises(SafetensorsError, match="would end"):
        read_header(write(tmp_path / "x.safetensors", b"", b"", length))


@pytest.mark.parametrize("content", [b"", b"\x02", b"PK\x03\x04" + bytes(40)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(SafetensorsError):
        read_header(path)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 260), value=st.binary(min_size=1, max_size=8), cut=st.integers(0, 300))
def test_damage_is_refused_or_harmless(small: Path, tmp_path: Path, position: int, value: bytes, cut: int) -> None:
    data = bytearray(small.read_bytes())
    data[position : position + len(value)] = value
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(data[: len(data) - cut])
    try:
        spans = read_header(path)
    except SafetensorsError:
        return
    with safe_open(path, framework="np") as library:  # what passes here, the library takes
        assert set(library.keys()) == set(spans)
