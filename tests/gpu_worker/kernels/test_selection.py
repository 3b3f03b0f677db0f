"""What runs where: compiled kernels where they can be, plain torch otherwise, one thread without a team."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gpu_worker.grammar.vocabulary import make_vocabulary
from gpu_worker.kernels import compiling
from gpu_worker.kernels.mask_kernels_cpu import CpuMaskKernels
from gpu_worker.kernels.mask_reference import PlainMaskKernels
from gpu_worker.kernels.plain import PlainKernels
from gpu_worker.kernels.selection import compiles_for, kernels_for, mask_kernels_for

CPU = torch.device("cpu")
VOCABULARY = make_vocabulary([b"a", b"b"], [])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_cpu_gets_compiled_models(dtype: torch.dtype) -> None:
    assert compiles_for(CPU, dtype)


def test_without_numba_plain_torch_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("gpu_worker.kernels.c")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numba", None)
    assert not compiles_for(CPU, torch.float32)
    assert isinstance(kernels_for(CPU, torch.float32), PlainKernels)


def test_without_triton_a_gpu_gets_plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("gpu_worker.kernels.") and "triton" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "triton", None)
    assert isinstance(kernels_for(torch.device("cuda"), torch.bfloat16), PlainKernels)


def test_other_devices_and_dtypes_get_plain_torch() -> None:
    assert not compiles_for(torch.device("meta"), torch.bfloat16)
    assert not compiles_for(CPU, torch.float16)
    assert isinstance(kernels_for(torch.device("meta"), torch.bfloat16), PlainKernels)


def test_the_cpu_gets_compiled_mask_kernels() -> None:
    assert isinstance(mask_kernels_for(CPU, VOCABULARY), CpuMaskKernels)


def test_masks_without_numba_are_plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        name for name in sys.modules if name.startswith(("gpu_worker.kernels.c", "gpu_worker.kernels.mask_k"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numba", None)
    assert isinstance(mask_kernels_for(CPU, VOCABULARY), PlainMaskKernels)


def test_masks_on_devices_without_kernels_are_plain_torch() -> None:
    assert isinstance(mask_kernels_for(torch.device("meta"), VOCABULARY), PlainMaskKernels)


def test_a_cache_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not compiling.cache_in(tmp_path / "file")


def _nothing(_arguments: Any) -> None:
    pass


def test_machine_code_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.config, "CACHE_DIR", "")
    assert compiling.cache_in(tmp_path)
    compiling.Compiled(_nothing)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}
    assert kept
    compiling.Compiled(_nothing)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")} == kept
