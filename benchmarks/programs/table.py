"""Medians of rounds, ratios within them, and the aims, as Markdown. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from benchmarks.programs.measure import Run

OF_THE_BEST = 0.96  # on average
OVER_NO_CACHE = 3.0
OVER_PLAIN = 1.5


class Way(StrEnum):
    """How a workload is run."""

    LANGUAGE = "language"
    NO_HINTS = "no hints"
    NO_CACHE = "no cache"
    PLAIN = "plain client"


class Row(NamedTuple):
    """One workload's figures. Rates are programs a second, latencies seconds, ratios those of rounds: their medians."""

    name: str
    prefix_heavy: bool
    forking: bool
    rates: Mapping[Way, float]
    ratios: Mapping[Way, Sequence[float]]
    """The language's rate over that of another way, of each round."""

    latency_p50: float
    latency_p99: float
    hit_rate: float
    hit_rate_no_hints: float
    best: float | None
    """What a cache with unlimited memory would have hit."""

    @property
    def of_the_best(self) -> float | None:
        return None if not self.best else self.hit_rate / self.best


def row(name: str, runs: Mapping[Way, Sequence[Run]], best: float | None, *, prefix_heavy: bool, forking: bool) -> Row:
    """Of runs in rounds: each way has one of each round, in order."""
    own = runs[Way.LANGUAGE]
    latencies = [latency for run in own for latency in run.latencies]
    return Row(
        name=name,
        prefix_heavy=prefix_heavy,
        forking=forking,
        rates={way: statistics.median(_rate(run) for run in found) for way, found in runs.items() if found},
        ratios={
            way: [_rate(ours) / _rate(other) for ours, other in zip(own, found, strict=False)]
            for way, found in runs.items()
            if way is not Way.LANGUAGE and found
        },
        latency_p50=float(np.percentile(latencies, 50)),
        latency_p99=float(np.percentile(latencies, 99)),
        hit_rate=statistics.median(run.hit_rate for run in own),
        hit_rate_no_hints=statistics.median(run.hit_rate for run in runs.get(Way.NO_HINTS) or own),
        best=best,
    )


def table(rows: Sequence[Row]) -> str:
    """Every workload a line, then how the aims were met."""
    heads = (
        *("program", "programs/s", "over no cache", "over no hints", "over plain client", "latency p50 / p99"),
        *("hits", "hits, no hints", "best possible", "of the best"),
    )
    lines = [heads, ("---",) * len(heads), *map(_cells, rows)]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", *aims(rows)])


def aims(rows: Sequence[Row]) -> list[str]:
    """A sentence for each aim that there are figures for."""
    found: list[str] = []
    shares = [row.of_the_best for row in rows if row.of_the_best is not None]
    if shares:
        mean = statistics.mean(shares)
        met = _met(mean >= OF_THE_BEST)
        found.append(f"hit rate, of the best possible, mean: {mean:.1%} (aim {OF_THE_BEST:.0%}): {met}")
    for title, way, aim, chosen in (
        ("prefix-heavy, over no cache", Way.NO_CACHE, OVER_NO_CACHE, [row for row in rows if row.prefix_heavy]),
        ("forking, over the plain client", Way.PLAIN, OVER_PLAIN, [row for row in rows if row.forking]),
    ):
        ratios = {row.name: statistics.median(row.ratios[way]) for row in chosen if way in row.ratios}
        if ratios:
            told = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
            found.append(f"{title}: {told} (aim {aim:g}): {_met(min(ratios.values()) >= aim)}")
    return found


def _cells(row: Row) -> tuple[str, ...]:
    marks = [mark for mark, is_so in (("prefix-heavy", row.prefix_heavy), ("forking", row.forking)) if is_so]
    return (
        f"{row.name} ({', '.join(marks)})" if marks else row.name,
        f"{row.rates[Way.LANGUAGE]:.2f}",
        *(_ratio(row, way) for way in (Way.NO_CACHE, Way.NO_HINTS, Way.PLAIN)),
        f"{row.latency_p50:.2f} / {row.latency_p99:.2f} s",
        f"{row.hit_rate:.1%}",
        f"{row.hit_rate_no_hints:.1%}",
        "–" if row.best is None else f"{row.best:.1%}",
        "–" if row.of_the_best is None else f"{row.of_the_best:.1%}",
    )


def _ratio(row: Row, way: Way) -> str:
    if way not in row.ratios:
        return "–"
    rounds = ", ".join(f"{ratio:.2f}" for ratio in row.ratios[way])
    return f"**{statistics.median(row.ratios[way]):.2f}×** ({rounds})"


def _rate(run: Run) -> float:
    return len(run.latencies) / run.seconds


def _met(is_met: bool) -> str:
    return "met" if is_met else "missed"
