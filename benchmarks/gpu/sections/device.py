"""What this device does at best: a copy inside its memory and a large matrix product, the roof of all floors."""

from __future__ import annotations

import torch

from benchmarks.gpu.floors import Roof
from benchmarks.gpu.options import Emit, Options
from benchmarks.gpu.rows import Row

COPY, PRODUCT = "device/copy", "device/matrix product"


def measure(options: Options, emit: Emit) -> None:
    """Both on random data: a matrix of zeros is multiplied faster, for it draws less power."""
    device, sizes, timer = options.torch_device, options.sizes, options.timer()
    source = torch.randint(-128, 127, (sizes.copied,), dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    seconds = timer.seconds(lambda: target.copy_(source))
    emit(Row(COPY, 2 * sizes.copied / seconds, "B/s", note=f"{sizes.copied >> 20} MiB, read and written"))
    a, b = (torch.randn(sizes.side, sizes.side, device=device, dtype=options.dtype) for _ in range(2))
    seconds = timer.seconds(lambda: a @ b)
    dtype = str(options.dtype).removeprefix("torch.")
    emit(Row(PRODUCT, 2 * sizes.side**3 / seconds, "FLOP/s", note=f"{sizes.side}³, {dtype}"))


def roof_of(rows: list[Row]) -> Roof | None:
    """None where either could not be measured."""
    values = {row.key: row.value for row in rows}
    if COPY not in values or PRODUCT not in values:
        return None
    return Roof(values[COPY], values[PRODUCT])
