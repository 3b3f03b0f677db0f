"""Charts and the numbers in them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.growth.charts import charts
from benchmarks.growth.svg import Chart, Scale, draw, number, y_ticks
from benchmarks.growth.whole import kind_of, total

_SVG = "{http://www.w3.org/2000/svg}"
_POSITIVE = st.floats(1e-3, 1e6)


def chart(lines: dict[str, dict[float, float]], *, log: bool = False) -> Chart:
    return Chart("a < b", "x", "y", lines, "note", log_y=log)


@given(st.dictionaries(st.integers(1, 10**6).map(float), _POSITIVE, min_size=1, max_size=6), st.booleans())
def test_every_point_is_drawn_inside(line: dict[float, float], log: bool) -> None:
    root = ET.fromstring(draw(chart({"one": line}, log=log)))
    circles = root.findall(f"{_SVG}circle")
    assert len(circles) == len(line)
    for circle in circles:
        assert 70 <= float(circle.attrib["cx"]) <= 450
        assert 46 <= float(circle.attrib["cy"]) <= 310


def test_names_are_escaped_and_do_not_overlap() -> None:
    root = ET.fromstring(draw(chart({"a&b": {1: 1, 10: 5}, "c": {1: 2, 10: 5}, "d": {1: 3, 10: 5}})))
    texts = {text.text: float(text.attrib["y"]) for text in root.findall(f"{_SVG}text")}
    assert "a < b" in texts
    places = sorted(texts[name] for name in ("a&b", "c", "d"))
    assert all(below - above >= 14 for above, below in pairwise(places))


def test_nothing_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        draw(chart({"one": {}}))


@given(_POSITIVE, st.floats(1, 1000), st.booleans())
def test_ticks_enclose_the_values(low: float, factor: float, log: bool) -> None:
    ticks = y_ticks(low, low * factor, log=log)
    assert ticks == sorted(set(ticks))
    assert len(ticks) >= 2
    assert ticks[0] <= low * (1 + 1e-9)
    assert ticks[-1] >= low * factor * (1 - 1e-9)


def test_scales_by_hand() -> None:
    assert Scale(1, 100, 0, 10, log=True).at(10) == pytest.approx(5)
    assert Scale(0, 100, 10, 0, log=False).at(25) == pytest.approx(7.5)
    assert Scale(3, 3, 0, 10, log=True).at(3) == 5
    assert [number(value) for value in (0.5, 2.0, 1000.0)] == ["0.5", "2", "1,000"]


def test_charts_of_the_parts_there_are() -> None:
    one = {"mean_us": 1.5, "p50_us": 1.0, "p99_us": 2.0}
    report: dict[str, Any] = {"measured": "2026-11-24T00:00:00Z", "machine": "m"}
    assert charts(report) == {}
    report["scheduler"] = {"rows": {"a": {"16": one, "64": one}}, "waiting": {"a": {"0": one, "1000": one}}}
    found = charts(report)
    assert found["scheduler-rows"].lines == {"a": {16.0: 1.5, 64.0: 1.5}}
    assert found["scheduler-waiting"].lines == {"a": {1000.0: 1.5}}  # none waiting has no place on a logarithmic axis
    for drawn in found.values():
        ET.fromstring(draw(drawn))


def test_totals_sum_over_labels() -> None:
    text = '# HELP a\na{x="1"} 2.0\na{x="2"} 3.5\nab 7\na_sum 1\n'
    assert total(text, "a") == 5.5
    assert total(text, "nothing") == 0


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (["python", "-P", "-m", "gpu_worker"], "gpu_worker"),
        (["python", "-m", "rootstream", "serve"], "launcher"),
        (["/x/valkey-server", "*:0"], "valkey"),
        (["python", "-c", "from multiprocessing.spawn import spawn_main"], "children"),
        ([], "children"),
    ],
)
def test_processes_are_told_by_their_command_lines(command: list[str], kind: str) -> None:
    assert kind_of(command) == kind
