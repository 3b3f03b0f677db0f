"""Weight-only quantised layers on CUDA: refusals everywhere, results where there is a device and torchao."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F

from gpu_worker.kernels.linear_quantized_cuda import Kind, quantized_linear
from shared.errors import UserError


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_kinds_without_a_kernel_are_refused(kind: Kind) -> None:
    with pytest.raises(UserError, match=f"{kind} .*slower than bfloat16.*4-bit"):
        quantized_linear(torch.zeros(64, 128), None, kind)


def test_int4_is_for_bfloat16_on_cuda() -> None:
    with pytest.raises(UserError, match="--device cuda and --dtype bfloat16, not cpu and float32"):
        quantized_linear(torch.zeros(64, 128), None, "int4")


def test_a_missing_torchao_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao", None)
    weight = _OnCuda(torch.zeros(64, 128, dtype=torch.bfloat16))
    with pytest.raises(UserError, match=r"pip install 'rootstream\[quant\]'"):
        quantized_linear(weight, None, "int4")


def test_rows_that_do_not_divide_into_groups_are_refused() -> None:
    with pytest.raises(UserError, match="multiple of 32 inputs, and this model has 100"):
        quantized_linear(_OnCuda(torch.zeros(64, 100, dtype=torch.bfloat16)), None, "int4")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("inputs", [576, 4096])
@pytest.mark.parametrize("rows", [1, 8, 300])
@pytest.mark.parametrize("biased", [False, True])
def test_int4_is_near_the_plain_product(inputs: int, rows: int, biased: bool) -> None:
    pytest.importorskip("torchao")
    generator = torch.Generator("cuda").manual_seed(0)
    weight, x, bias = (
        torch.randn(*shape, generator=generator, device="cuda", dtype=torch.bfloat16)
        for shape in ((512, inputs), (rows, inputs), (512,))
    )
    with torch.inference_mode():
        expected = F.linear(x, weight, bias if biased else None).float()
        found = quantized_linear(weight, bias if biased else None, "int4")(x).float()
    assert found.shape == expected.shape
    assert (found - expected).norm() / expected.norm() < 0.12  # 15 steps over a group's range


class _OnCuda(torch.Tensor):
    """A tensor that says it lies on a GPU: for what is checked before anything is computed."""

    @property
    def device(self) -> torch.device:  # pyright: ignore[reportIncompatibleVariableOverride]
        return torch.device("cuda")
