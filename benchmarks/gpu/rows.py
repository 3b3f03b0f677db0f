"""One measurement, and the table of all of them. Pure but for printing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.gpu.floors import Roof, Work

Unit = Literal["s", "B/s", "FLOP/s", "tokens/s", "x"]


class Row(msgspec.Struct, frozen=True):
    """What was measured under a key such as ``decode/llama-3-8b/64x2048``.

    ``work`` is set where there is a floor: the least time it takes on the device that was measured.
    """

    key: str
    value: float
    unit: Unit = "s"
    work: Work | None = None
    note: str = ""


class Judged(msgspec.Struct, frozen=True):
    """A row beside its floor."""

    row: Row
    floor_s: float | None
    share: float | None  # floor / measured: 1 is as fast as the device can


def judged(rows: Iterable[Row], roof: Roof | None) -> list[Judged]:
    """Floors for all rows that have one; none where the device itself could not be measured."""
    found: list[Judged] = []
    for row in rows:
        floor = None if row.work is None or roof is None else roof.seconds(row.work)
        found.append(Judged(row, floor, None if floor is None or row.value <= 0 else floor / row.value))
    return found


def show(value: float, unit: Unit) -> str:
    """Three significant digits in a unit for people."""
    scales: dict[Unit, list[tuple[float, str]]] = {
        "s": [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")],
        "B/s": [(1e12, "TB/s"), (1e9, "GB/s")],
        "FLOP/s": [(1e12, "TFLOP/s"), (1e9, "GFLOP/s")],
        "tokens/s": [(1.0, "tokens/s")],
        "x": [(1.0, "×")],
    }
    for scale, name in scales[unit]:
        if abs(value) >= scale or (scale, name) == scales[unit][-1]:
            scaled = value / scale
            digits = 0 if abs(scaled) >= 100 else 1 if abs(scaled) >= 10 else 2
            return f"{scaled:,.{digits}f} {name}"
    raise AssertionError(unit)


def table(rows: Sequence[Judged]) -> Table:
    made = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    made.add_column("what")
    for column in ("measured", "floor", "of the floor"):
        made.add_column(column, justify="right")
    made.add_column("note")
    for judgement in rows:
        row, floor, share = judgement.row, judgement.floor_s, judgement.share
        made.add_row(
            row.key,
            show(row.value, row.unit),
            "" if floor is None else show(floor, "s"),
            "" if share is None else f"{share:.0%}",
            row.note,
        )
    return made


def print_table(rows: Sequence[Judged]) -> None:
    Console(highlight=False, width=120).print(table(rows))


def as_json(rows: Sequence[Judged]) -> list[dict[str, Any]]:
    """Plain values, as they were measured."""
    found: list[dict[str, Any]] = []
    for judgement in rows:
        row = judgement.row
        work = None if row.work is None else row.work._asdict()
        found.append(
            msgspec.structs.asdict(row) | {"work": work, "floor_s": judgement.floor_s, "share": judgement.share}
        )
    return found
