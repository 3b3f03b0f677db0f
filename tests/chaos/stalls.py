"""How long streams stood still beyond the time that the killed processes needed to start. Pure.

Only the start itself excuses a stall, from the new process's first moment to its ready pulse: the time in which
nobody had noticed the death, or waited before starting again, counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from tests.chaos.history import Outage, Outcome, Stream


class Span(NamedTuple):
    """From one time to another, in unix seconds."""

    since: float
    until: float


def starts(outages: Sequence[Outage], now: float) -> list[Span]:
    """The times in which anything was starting or frozen, as disjoint spans in order."""
    spans = sorted(
        Span(
            outage.since if outage.started is None else outage.started,
            now if outage.until is None else outage.until,
        )
        for outage in outages
    )
    joined: list[Span] = []
    for span in spans:
        if joined and span.since <= joined[-1].until:
            joined[-1] = Span(joined[-1].since, max(joined[-1].until, span.until))
        else:
            joined.append(span)
    return joined


def silences(stream: Stream) -> list[Span]:
    """The times in which a stream's client waited for something."""
    times = [stream.began, *(event.at for event in stream.events)]
    if stream.last.outcome in (Outcome.ENDED, Outcome.HUNG):
        times.append(stream.last.ended)
    return [Span(a, b) for a, b in itertools.pairwise(times)]


class Stall(NamedTuple):
    """A silence, less what excuses it."""

    seconds: float
    span: Span
    stream: int


def longest_stall(stream: Stream, away: Sequence[Span]) -> Stall:
    """The longest time without an event, not counting what is in ``away``."""
    longest = Stall(0.0, Span(stream.began, stream.began), stream.number)
    for silence in silences(stream):
        if silence.until - silence.since > longest.seconds:
            excused = sum(max(0.0, min(silence.until, b) - max(silence.since, a)) for a, b in away)
            longest = max(longest, Stall(silence.until - silence.since - excused, silence, stream.number))
    return longest
