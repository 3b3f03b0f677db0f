"""Files of weights from strangers: damaged or made up, each is refused with its name and a reason."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from gpu_worker.gguf_weights import GGUFWeights
from gpu_worker.safetensors_weights import SafetensorsWeights
from shared.errors import UserError
from tests.gpu_worker.models.test_gguf import write_gguf

NAMES = ("model.embed_tokens.weight", "model.layers.1.self_attn.q_proj.weight", "model.norm.weight")


@pytest.fixture(scope="module")
def toy_gguf(toy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "toy.gguf"
    write_gguf(toy_model, path, quantise=gguf.GGMLQuantizationType.Q8_0)
    return path


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    position=st.integers(4, 1900),
    value=st.binary(min_size=1, max_size=4) | st.sampled_from((b"\xff" * 8, bytes(8), (2**40).to_bytes(8, "little"))),
)
def test_a_changed_gguf_file_is_read_or_refused(toy_gguf: Path, tmp_path: Path, position: int, value: bytes) -> None:
    data = bytearray(toy_gguf.read_bytes())
    data[position : position + len(value)] = value
    path = tmp_path / "changed.gguf"
    path.write_bytes(data)
    with contextlib.suppress(UserError):
        weights = GGUFWeights(path)
        for name in NAMES:
            weights.grouped(name)
            weights.tensor(name)


def write_tensors(path: Path, *entries: tuple[str, tuple[int, ...], int, int]) -> Path:
    """A GGUF file by hand: tensors by name, shape, type and offset, and 4 KiB of data."""

    def text(value: str) -> bytes:
        return len(value).to_bytes(8, "little") + value.encode()

    body = b"".join(
        text(name)
        + len(shape).to_bytes(4, "little")
        + b"".join(size.to_bytes(8, "little") for size in shape)
        + kind.to_bytes(4, "little")
        + offset.to_bytes(8, "little")
        for name, shape, kind, offset in entries
    )
    head = b"GGUF" + (3).to_bytes(4, "little") + len(entries).to_bytes(8, "little") + bytes(8)
    path.write_bytes(head + body + bytes(4096))
    return path


EMBEDDING = ("token_embd.weight", (4, 4), 0, 0)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([EMBEDDING, EMBEDDING], "two tensors have one name"),
        ([EMBEDDING, ("x", (4, 4), 0, 32)], "x overlaps another"),
        ([EMBEDDING, ("x", (0,), 0, 64)], "holds nothing"),
        ([EMBEDDING, ("x", (), 0, 64)], "holds nothing"),
        ([EMBEDDING, ("x", (4,), 999, 64)], "unknown type"),
        ([EMBEDDING, ("x", (4,), 2, 64)], "in blocks of 32"),
        ([EMBEDDING, ("x", (2**40, 2**40), 0, 64)], "Not|no|lacks|needs|missing"),
        ([EMBEDDING, ("x", (2**41,), 0, 64)], "the file is damaged"),
        ([EMBEDDING, ("x", (1, 1, 1, 1, 1), 0, 64)], "5 dimensions"),
        ([EMBEDDING, ("x", (4,), 0, 2**63)], "beyond the end"),
    ],
)
def test_a_made_up_gguf_file_is_refused(
    tmp_path: Path, entries: list[tuple[str, tuple[int, ...], int, int]], reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        GGUFWeights(write_tensors(tmp_path / "x.gguf", *entries))


@pytest.fixture
def model(toy_model: Path, tmp_path: Path) -> Path:
    return shutil.copytree(toy_model, tmp_path / "model")


def test_a_cut_safetensors_file_is_refused(model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read: its tensors end at byte"):
        SafetensorsWeights(model)


@pytest.mark.parametrize("index", ["[]", "{}", '{"weight_map": {"a": 1}}', '{"weight_map": []}', "[" * 100_000, "\x00"])
def test_an_index_that_is_none_is_refused(model: Path, index: str) -> None:
    (model / "model.safetensors.index.json").write_text(index)
    with pytest.raises(UserError, match="not an index of shards"):
        SafetensorsWeights(model)


@pytest.mark.parametrize("shard", ["../model.safetensors", "/etc/passwd", "absent.safetensors", "", ".", "a\x00b"])
def test_a_shard_elsewhere_or_nowhere_is_refused(model: Path, shard: str) -> None:
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"model.norm.weight": shard}}))
    with pytest.raises(UserError, match=r"shard|cannot be read"):
        SafetensorsWeights(model).tensor("model.norm.weight")


def test_a_tensor_that_only_the_index_has_is_named(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    save_file({"other": np.zeros(1, np.float32)}, model / "model.safetensors")
    (model / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": dict.fromkeys(tensors, "model.safetensors")})
    )
    with pytest.raises(UserError, match=r"lacks the tensor model\.norm\.weight, which the index says is there"):
        SafetensorsWeights(model).tensor("model.norm.weight")
