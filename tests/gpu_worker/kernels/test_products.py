"""Packed weights and the compiled products with them, against plain torch on the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from gpu_worker.grouped import Grouped
from gpu_worker.kernels import convert_cpu, embedding_cpu, frame_cpu, product_cpu
from gpu_worker.kernels.activations_cpu import Form, form_for, room
from gpu_worker.kernels.compiling import Compiled
from gpu_worker.kernels.panels import PANEL, Format, Packed, pack, quantized
from gpu_worker.kernels.product_cpu import Ending
from gpu_worker.kernels.program_cpu import Op, Program
from gpu_worker.kernels.team import Team

TEAM = Team()
KERNELS: dict[object, Compiled] = {}
ERROR = {Form.F32: 2e-6, Form.BF16: 4e-3, Form.INT8: 2.5e-2}  # of the norm, from rounding activations
ROWS = (1, 2, 3, 5, 6, 7, 8, 13, 64)


def address(make: object, *options: object) -> int:
    key = (make, *options)
    if key not in KERNELS:
        KERNELS[key] = Compiled(make(*options))  # type: ignore[operator]
    return KERNELS[key].address


def plain(weight: Tensor | Grouped, form: Format) -> Tensor:
    """What a packed weight stands for."""
    if isinstance(weight, Grouped):
        return weight.dequantized()
    if form.is_grouped:
        return quantized(weight, 4 if form is Format.Q4 else 8).dequantized()
    return weight.to(torch.bfloat16).float() if form is Format.BF16 else weight


def product(x: Tensor, packed: Packed, out: Tensor, ending: Ending, bias: Tensor | None = None) -> Tensor:
    """Convert rows, then multiply: two kernels of a program."""
    form = form_for(packed.format)
    rows = room(form, len(x), packed.inputs)
    frame = np.zeros(frame_cpu.FIELDS, np.int64)
    frame[frame_cpu.TOKENS] = len(x)
    a = np.zeros(convert_cpu.ARGUMENTS, np.int64)
    a[1:] = (frame.ctypes.data, x.data_ptr(), *rows.addresses)
    b = np.zeros(product_cpu.ARGUMENTS, np.int64)
    b[frame_cpu.FRAME] = frame.ctypes.data
    b[product_cpu.WEIGHTS], b[product_cpu.PANEL_BYTES] = packed.data.data_ptr(), packed.panel_bytes
    b[product_cpu.PANELS], b[product_cpu.INPUTS], b[product_cpu.WIDTH] = packed.panels, packed.inputs, out.shape[1]
    b[product_cpu.X : product_cpu.BIAS] = rows.addresses
    b[product_cpu.BIAS] = 0 if bias is None else bias.data_ptr()
    b[product_cpu.OUT] = out.data_ptr()
    ops = [
        Op(address(convert_cpu.convert_body, packed.inputs, form), a),
        Op(address(product_cpu.product_body, packed.format, ending), b),
    ]
    Program(ops, TEAM).run()
    return out


def close(actual: Tensor, x: Tensor, weight: Tensor, form: Format, plus: Tensor | float = 0.0) -> None:
    """Is it ``x @ weight.T + plus``? Rounding is measured against what random signs would give: outputs may cancel."""
    assert actual.isfinite().all()
    expected = x @ weight.T + plus
    size = x.norm(dim=1)[:, None] * weight.norm(dim=1) * x.shape[1] ** -0.5
    assert float((actual - expected).norm() / size.norm()) < ERROR[form_for(form)]


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("outputs", [1, PANEL - 1, PANEL, 3 * PANEL + 5])
def test_products_for_any_number_of_rows(form: Format, outputs: int) -> None:
    generator = torch.Generator().manual_seed(outputs)
    weight = torch.randn(outputs, 96, generator=generator)
    packed, expected = pack(weight, form), plain(weight, form)
    for rows in ROWS:
        x = torch.randn(rows, 96, generator=generator) * torch.rand(rows, 1, generator=generator).mul(4).exp()
        close(product(x, packed, torch.full((rows, outputs), 7.0), Ending.STORE), x, expected, form)


@pytest.mark.parametrize("form", Format)
def test_a_row_is_computed_the_same_whoever_is_beside_it(form: Format) -> None:
    packed = pack(torch.randn(64, 64, generator=torch.Generator().manual_seed(1)), form)
    x = torch.randn(13, 64, generator=torch.Generator().manual_seed(2))
    together = product(x, packed, torch.zeros(13, 64), Ending.STORE)
    for n in range(13):
        alone = product(x[n : n + 1].clone(), packed, torch.zeros(1, 64), Ending.STORE)
        assert torch.equal(alone[0], together[n])


@pytest.mark.parametrize("form", Format)
def test_products_add_to_what_is_there_and_take_a_bias(form: Format) -> None:
    generator = torch.Generator().manual_seed(3)
    weight, x = torch.randn(40, 64, generator=generator), torch.randn(9, 64, generator=generator)
    bias, before = torch.randn(40, generator=generator), torch.randn(9, 40, generator=generator)
    packed = pack(weight, form)
    padded = torch.cat((bias, torch.zeros(packed.panels * PANEL - 40)))
    actual = product(x, packed, before.clone(), Ending.ADD, padded)
    close(actual, x, plain(weight, form), form, before + bias)


@pytest.mark.parametrize("form", Format)
def test_gates(form: Format) -> None:
    """Half of a panel lets the other half through; very small and large gates neither overflow nor are lost."""
    generator = torch.Generator().manual_seed(4)
    half = PANEL // 2
    gate, up = torch.randn(2 * half, 64, generator=generator), torch.randn(2 * half, 64, generator=generator)
    x = torch.randn(5, 64, generator=generator)
    x[0] *= 1000
    weight = torch.cat((gate[:half], up[:half], gate[half:], up[half:]))
    exact = plain(weight, form).view(2, 2, half, 64)
    through = torch.nn.functional.silu(x @ exact[:, 0].flatten(0, 1).T) * (x @ exact[:, 1].flatten(0, 1).T)
    actual = product(x, pack(weight, form), torch.zeros(5, 2 * half), Ending.GATE)
    for row in range(5):  # of very different sizes; two roundings meet
        assert float((actual[row] - through[row]).norm() / through[row].norm()) < 3 * ERROR[form_for(form)]


@pytest.mark.parametrize("form", Format)
def test_activations_of_zeros_and_of_one_large_value(form: Format) -> None:
    x = torch.zeros(2, 64)
    x[1, 40] = 1e6
    weight = torch.randn(32, 64, generator=torch.Generator().manual_seed(5))
    actual = product(x, pack(weight, form), torch.ones(2, 32), Ending.STORE)
    assert torch.equal(actual[0], torch.zeros(32))
    close(actual[1:], x[1:], plain(weight, form), form)


@pytest.mark.parametrize("form", Format)
def test_rows_of_an_embedding_are_read_from_its_panels(form: Format) -> None:
    generator = torch.Generator().manual_seed(6)
    weight = torch.randn(2 * PANEL + 3, 64, generator=generator)
    packed = pack(weight, form)
    ids = torch.tensor([0, 1, PANEL - 1, PANEL, 2 * PANEL + 2, 5, 5])
    out = torch.empty(len(ids), 64)
    frame = np.zeros(frame_cpu.FIELDS, np.int64)
    frame[frame_cpu.TOKENS], frame[frame_cpu.INPUT_IDS] = len(ids), ids.data_ptr()
    a = np.zeros(embedding_cpu.ARGUMENTS, np.int64)
    a[1:] = (frame.ctypes.data, packed.data.data_ptr(), packed.panel_bytes, out.data_ptr())
    Program([Op(address(embedding_cpu.embedding_body, form, 64), a)], TEAM).run()
    torch.testing.assert_close(out, plain(weight, form)[ids], rtol=1e-6, atol=1e-6)


def test_four_bits_are_kept_exactly_in_eight() -> None:
    exact = quantized(torch.randn(40, 64, generator=torch.Generator().manual_seed(7)), 4)
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(8))
    four, eight = (product(x, pack(exact, form), torch.zeros(3, 40), Ending.STORE) for form in (Format.Q4, Format.Q8))
    assert torch.equal(four, eight)


@pytest.mark.parametrize("bits", [4, 8])
def test_rounding_keeps_within_half_a_step(bits: int) -> None:
    weight = torch.randn(20, 96, generator=torch.Generator().manual_seed(bits))
    rounded = quantized(weight, bits)
    step = rounded.scales.float().repeat_interleave(32, dim=1)
    assert ((rounded.dequantized() - weight).abs() <= step * 0.51 + 2e-3).all()


def test_what_does_not_fit_a_format_is_refused() -> None:
    with pytest.raises(ValueError, match="48 inputs cannot be packed as Q4"):
        pack(torch.zeros(4, 48), Format.Q4)
    with pytest.raises(ValueError, match="cannot be packed as BF16"):
        pack(torch.zeros(4, 3), Format.BF16)
