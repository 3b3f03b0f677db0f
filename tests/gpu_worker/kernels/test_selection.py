"""What runs where: compiled kernels where they can be, plain torch otherwise, one thread without a team."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gpu_worker.grammar.vocabulary import make_vocabulary
from gpu_worker.kernels import compiling, team
from gpu_worker.kernels.attention_pass_cpu import attention_tasks
from gpu_worker.kernels.cpu import CpuKernels
from gpu_worker.kernels.mask_kernels_cpu import CpuMaskKernels
from gpu_worker.kernels.mask_reference import PlainMaskKernels
from gpu_worker.kernels.plain import PlainKernels
from gpu_worker.kernels.selection import kernels_for, mask_kernels_for

CPU = torch.device("cpu")
VOCABULARY = make_vocabulary([b"a", b"b"], [])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_cpu_gets_compiled_kernels(dtype: torch.dtype) -> None:
    assert isinstance(kernels_for(CPU, dtype), CpuKernels)


def test_without_numba_plain_torch_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("gpu_worker.kernels.c")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numba", None)
    assert isinstance(kernels_for(CPU, torch.float32), PlainKernels)


def test_without_triton_a_gpu_gets_plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("gpu_worker.kernels.") and "triton" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "triton", None)
    assert isinstance(kernels_for(torch.device("cuda"), torch.bfloat16), PlainKernels)


def test_other_devices_and_dtypes_get_plain_torch() -> None:
    assert isinstance(kernels_for(torch.device("meta"), torch.bfloat16), PlainKernels)
    assert isinstance(kernels_for(CPU, torch.float16), PlainKernels)


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


def test_machine_code_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.config, "CACHE_DIR", "")
    assert compiling.cache_in(tmp_path)
    kernels, x = CpuKernels(torch.float32), torch.ones(2, 48)
    kernels.rms_norm(x, torch.ones(48), 1e-6)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}
    assert kept
    again = CpuKernels(torch.float32)
    torch.testing.assert_close(again.rms_norm(x, torch.ones(48), 1e-6), x)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")} == kept


def test_kernels_run_without_a_team(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "_gomp_parallel", lambda: None)
    kernels = CpuKernels(torch.float32)
    gate_up = torch.randn(300, 256)
    torch.testing.assert_close(kernels.silu_mul(gate_up), PlainKernels().silu_mul(gate_up))


def test_the_team_is_torchs_own() -> None:
    assert team.Team().is_parallel, "torch's libgomp was not found"


def test_tasks_cover_every_token_once() -> None:
    starts = np.array([0, 1, 2, 22, 23, 40], dtype=np.int32)  # two decodes, a chunk, a chunk of one token, a chunk
    decode, extend = attention_tasks(starts, 8)
    assert decode.tolist() == [[0, 1, 0], [1, 1, 1], [22, 1, 3]]
    covered = sorted(t for first, count, _ in extend.tolist() for t in range(first, first + count))
    assert covered == [*range(2, 22), *range(23, 40)]
    assert all(1 <= count <= 8 for _, count, _ in extend.tolist())
    assert {row for _, _, row in extend.tolist()} == {2, 4}
