"""What every section is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import torch

from benchmarks.gpu.rows import Row
from benchmarks.gpu.sizes import Sizes
from benchmarks.gpu.timing import Timer

Emit = Callable[[Row], None]
"""Called with each measurement as soon as there is one: what comes after it may fail."""


class Options(msgspec.Struct, frozen=True):
    """One run. Sections run in processes of their own, so this travels as JSON."""

    device: str
    sizes: Sizes
    tokenizer: str  # directory with tokenizer.json, for shapes have none
    scratch: str  # directory for model directories and caches

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.device)

    @property
    def dtype(self) -> torch.dtype:
        """bfloat16 on a GPU; float32 where a CPU tries the code."""
        return torch.bfloat16 if self.device == "cuda" else torch.float32

    @property
    def scratch_path(self) -> Path:
        return Path(self.scratch)

    def timer(self) -> Timer:
        return Timer(self.torch_device, self.sizes.seconds)
