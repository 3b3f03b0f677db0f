"""A Hugging Face directory as a source of weights: safetensors only, in one file or sharded.

Pickled checkpoints are never opened: they can run code. Knows nothing of devices.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gpu_worker.grouped import Grouped
from gpu_worker.models.config import ModelConfig, read_huggingface_config
from shared.errors import UserError
from shared.safetensors_header import read_header


class SafetensorsWeights:
    """The tensors of one directory, memory-mapped and read one by one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.config: ModelConfig = read_huggingface_config(directory)
        self._shards: dict[str, Any] = {}
        self._names: dict[str, frozenset[str]] = {}  # of the tensors in each shard that is open
        self._files: dict[str, str] = self._index()

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def tensor(self, name: str) -> Tensor:
        """The weight of this name in its stored dtype. Raises UserError where there is none."""
        file = self._files.get(name)
        if file is None:
            raise UserError(f"{self._directory} lacks the tensor {name}")
        shard = self._shard(file)
        if name not in self._names[file]:
            raise UserError(f"{self._directory / file} lacks the tensor {name}, which the index says is there")
        return shard.get_tensor(name)

    def grouped(self, name: str) -> Grouped | None:  # noqa: ARG002
        """Nothing is stored in groups: quantised checkpoints are refused with their configuration."""
        return None

    def bits(self, name: str) -> int:  # noqa: ARG002
        """All are at least 16 bits wide."""
        return 16

    def frequency_divisors(self) -> Tensor | None:
        """config.json says everything about the rotary embedding: nothing to divide by."""
        return None

    def _index(self) -> dict[str, str]:
        index = self._directory / "model.safetensors.index.json"
        if index.exists():
            try:
                return msgspec.convert(json.loads(index.read_text(encoding="utf-8"))["weight_map"], dict[str, str])
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise UserError(f"{index} is not an index of shards: {error!r}") from error
        if not (self._directory / "model.safetensors").exists():
            raise UserError(
                f"{self._directory} has no model.safetensors; pickled weights (.bin, .pt) are not read because they "
                "can run code: convert them to safetensors"
            )
        self._shard("model.safetensors")
        return dict.fromkeys(self._names["model.safetensors"], "model.safetensors")

    def _shard(self, file: str) -> Any:
        if file not in self._shards:
            path = self._directory / file
            if Path(file).name != file:
                raise UserError(f"{self._directory}: the index names a shard outside the directory: {file}")
            try:
                self._names[file] = frozenset(read_header(path))
                self._shards[file] = safe_open(path, framework="pt")
            except (OSError, ValueError, SafetensorError) as error:
                raise UserError(f"{path} cannot be read: {error}") from error
        return self._shards[file]
