"""Does a series of measurements grow? Pure: numbers in, a verdict out.

The slope is the median of the slopes between all pairs of points (Theil 1950, Sen 1968): a spike, or a third of the
points, does not move it.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from typing import NamedTuple

_MOST_POINTS = 200  # pairs are compared: 20,000 of them
_WARM_UP = 0.25  # of a life: caches fill, arenas are made
_FEWEST = 10  # points, to say anything


class Point(NamedTuple):
    """A measurement; ``at`` in seconds."""

    at: float
    value: float


class Trend(NamedTuple):
    """What a series did after its warm-up."""

    first: float  # median of the first tenth
    last: float  # median of the last tenth
    per_hour: float
    growth: float  # the slope, times the time it was seen for
    seconds: float


class Allowance(NamedTuple):
    """How much a series may grow while it is watched: whichever is more."""

    absolute: float
    share: float = 0.0  # of its first value

    def of(self, trend: Trend) -> float:
        return max(self.absolute, self.share * trend.first)


def trend_of(points: Sequence[Point]) -> Trend | None:
    """None where there are too few points to say."""
    warm = points[int(len(points) * _WARM_UP) :]
    if len(warm) < _FEWEST:
        return None
    step = -(-len(warm) // _MOST_POINTS)
    thin = warm[::step]
    slopes = [(b.value - a.value) / (b.at - a.at) for a, b in itertools.combinations(thin, 2) if b.at > a.at]
    slope = statistics.median(slopes)
    tenth = max(1, len(warm) // 10)
    seconds = warm[-1].at - warm[0].at
    first = statistics.median(point.value for point in warm[:tenth])
    last = statistics.median(point.value for point in warm[-tenth:])
    return Trend(first, last, slope * 3600, slope * seconds, seconds)


def grows(trend: Trend, allowance: Allowance) -> bool:
    """More than it may."""
    return trend.growth > allowance.of(trend)
