"""Rows beside their floors, what is told of them, and which aims they meet."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from benchmarks.gpu import aims, rows
from benchmarks.gpu.aims import AIMS, Aim
from benchmarks.gpu.floors import Roof, Work
from benchmarks.gpu.rows import Row
from benchmarks.gpu.sections.device import COPY, PRODUCT, roof_of

ROOF = Roof(bytes_per_s=1e12, flops_per_s=1e15)
SLOW = Row("decode/a", 4e-3, work=Work(bytes=10**9))


def test_the_share_is_of_what_the_device_was_measured_to_do() -> None:
    found = [Row(COPY, 1e12, "B/s"), Row(PRODUCT, 1e15, "FLOP/s")]
    assert roof_of(found) == ROOF
    (judged,) = rows.judged([SLOW], ROOF)
    assert (judged.floor_s, judged.share) == (1e-3, 0.25)


def test_without_a_roof_there_are_figures_but_no_floors() -> None:
    assert roof_of([Row(COPY, 1e12, "B/s")]) is None
    (judged,) = rows.judged([SLOW], None)
    assert (judged.floor_s, judged.share) == (None, None)


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (1.5, "s", "1.50 s"),
        (0.0123, "s", "12.3 ms"),
        (4e-6, "s", "4.00 µs"),
        (0.0, "s", "0.00 µs"),
        (3.35e12, "B/s", "3.35 TB/s"),
        (98.6e9, "B/s", "98.6 GB/s"),
        (798e12, "FLOP/s", "798 TFLOP/s"),
        (12345.6, "tokens/s", "12,346 tokens/s"),
        (4.25, "x", "4.25 ×"),
    ],
)
def test_figures_are_shown_with_three_digits(value: float, unit: rows.Unit, shown: str) -> None:
    assert rows.show(value, unit) == shown


def test_the_table_has_a_line_for_each() -> None:
    out = io.StringIO()
    Console(file=out, width=120).print(rows.table(rows.judged([SLOW, Row("b", 3.0, "x", note="why")], ROOF)))
    assert [line.split() for line in out.getvalue().splitlines()[1:]] == [
        ["decode/a", "4.00", "ms", "1.00", "ms", "25%"],
        ["b", "3.00", "×", "why"],
    ]


def test_json_keeps_what_was_measured() -> None:
    (entry,) = json.loads(json.dumps(rows.as_json(rows.judged([SLOW], ROOF))))
    assert entry == {
        "key": "decode/a",
        "value": 4e-3,
        "unit": "s",
        "work": {"bytes": 10**9, "flops": 0},
        "note": "",
        "floor_s": 1e-3,
        "share": 0.25,
    }


def test_aims_are_met_missed_or_not_measured() -> None:
    wanted = [
        Aim("share reached", "decode/a", "share", least=0.2),
        Aim("share not reached", "decode/a", "share", least=0.3),
        Aim("short enough", "gap", "value", most=30e-6),
        Aim("no such row", "c", "value", least=1),
        Aim("a row without a floor", "gap", "share", least=1),
    ]
    verdicts = aims.verdicts(rows.judged([SLOW, Row("gap", 31e-6)], ROOF), wanted)
    assert [verdict.met for verdict in verdicts] == [True, False, False, None, None]
    assert [aims.describe(verdict).split() for verdict in verdicts[1:4]] == [
        ["missed", "share", "not", "reached:", "25%"],
        ["missed", "short", "enough:", "31.0", "µs"],
        ["not", "measured", "no", "such", "row"],
    ]


def test_every_aim_has_one_bound() -> None:
    assert all((aim.least is None) != (aim.most is None) for aim in AIMS)
