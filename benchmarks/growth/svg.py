"""A line chart as SVG: few lines, both axes logarithmic or linear, legible in light and dark. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 190, 46, 50
_COLOURS = ("#2f6fde", "#d1495b", "#2a9d6e", "#b7791f", "#7b4fc9")
_GREY = "#8a8f98"
_FONT = f'font-family="sans-serif" font-size="12" fill="{_GREY}"'


class Chart(NamedTuple):
    """What is drawn."""

    title: str
    x: str
    y: str
    lines: Mapping[str, Mapping[float, float]]
    """By the name of each line: y by x, all above 0 where an axis is logarithmic."""

    note: str = ""
    log_x: bool = True
    log_y: bool = False


class Scale(NamedTuple):
    """From a value to a place between two ends."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    def at(self, value: float) -> float:
        low, high, here = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        share = (here - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)


def draw(chart: Chart) -> str:
    """The whole file. Raises ValueError for a chart without points."""
    xs = sorted({x for line in chart.lines.values() for x in line})
    ys = [y for line in chart.lines.values() for y in line.values()]
    if not ys:
        raise ValueError(f"nothing to draw: {chart.title}")
    ticks = y_ticks(min(ys), max(ys), log=chart.log_y)
    across = Scale(xs[0], xs[-1], _LEFT, _WIDTH - _RIGHT, chart.log_x)
    up = Scale(ticks[0], ticks[-1], _HEIGHT - _BOTTOM, _TOP, chart.log_y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" {_FONT}>',
        _text(_LEFT, 20, chart.title, 'font-size="15"'),
        _text(_LEFT, 36, chart.note, 'font-size="11"'),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, chart.x, 'text-anchor="middle"'),
        _text(-(_TOP + _HEIGHT - _BOTTOM) / 2, 16, chart.y, 'text-anchor="middle" transform="rotate(-90)"'),
    ]
    for tick in ticks:
        y = up.at(tick)
        ends = f'x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"'
        parts.append(f'<line {ends} stroke="{_GREY}" stroke-opacity="0.3"/>')
        parts.append(_text(_LEFT - 6, y + 4, number(tick), 'text-anchor="end"'))
    parts += [_text(across.at(x), _HEIGHT - _BOTTOM + 18, number(x), 'text-anchor="middle"') for x in xs]
    places = _spread([up.at(line[max(line)]) for line in chart.lines.values()])
    for index, (name, line) in enumerate(chart.lines.items()):
        parts += _drawn(name, line, _COLOURS[index % len(_COLOURS)], across, up, places[index])
    return "\n".join([*parts, "</svg>"]) + "\n"


def y_ticks(low: float, high: float, *, log: bool) -> list[float]:
    """Round values that reach from ``low``, or 0 on a linear axis, to ``high``."""
    if log:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        return [10.0**power for power in range(first, max(last, first + 1) + 1)]
    rough = max(high, 1e-9) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    return [round(step * index, 12) for index in range(math.ceil(high / step - 1e-9) + 1)]


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"


def _text(x: float, y: float, text: str, more: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'


def _spread(places: Sequence[float], least: float = 14.0) -> list[float]:
    """The same places moved down as far as needed for names not to overlap."""
    moved = list(places)
    order = sorted(range(len(places)), key=places.__getitem__)
    for above, below in pairwise(order):
        moved[below] = max(moved[below], moved[above] + least)
    return moved


def _drawn(name: str, line: Mapping[float, float], colour: str, across: Scale, up: Scale, name_y: float) -> list[str]:
    points = [(across.at(x), up.at(y)) for x, y in sorted(line.items())]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points)
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}',
        _text(points[-1][0] + 8, name_y + 4, name, f'fill="{colour}"'),
    ]
