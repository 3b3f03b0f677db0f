"""What a run amounts to: throughput, latencies, cache hits. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rootstream.bench.slo import ANY, Slo


class Timeline(NamedTuple):
    """One request as its client saw it; times in seconds of one monotonic clock."""

    sent: float
    arrivals: list[float]  # of each piece of text
    ended: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    error: str | None = None
    text: str = ""  # of the whole answer


class Figures(NamedTuple):
    """A workload's result. Latencies in milliseconds; NaN where nothing was measured."""

    requests: int
    failed: int
    seconds: float
    requests_per_s: float
    tokens_per_s: float  # generated tokens
    prompt_tokens: int
    completion_tokens: int
    cache_hit_rate: float  # cached prompt tokens of all prompt tokens
    ttft_p50: float
    ttft_p99: float
    itl_p50: float  # between pieces of text, which is a token each as long as the client keeps up
    itl_p99: float
    per_token: float  # mean over requests of (last - first arrival) / (tokens - 1)
    ttft_mean: float
    ttft_p90: float
    ttft_p95: float
    itl_mean: float
    itl_p90: float
    itl_p95: float
    e2e_mean: float
    e2e_p50: float
    e2e_p90: float
    e2e_p95: float
    e2e_p99: float
    goodput: float  # requests a second that kept every bound


def summarize(timelines: Sequence[Timeline], slo: Slo = ANY) -> Figures:
    """The figures of one workload's requests; all that succeed count as goodput without bounds."""
    good = [timeline for timeline in timelines if timeline.error is None]
    seconds = max((t.ended for t in timelines), default=0.0) - min((t.sent for t in timelines), default=0.0)
    prompt = sum(timeline.prompt_tokens for timeline in good)
    completion = sum(timeline.completion_tokens for timeline in good)
    ttft = [timeline.arrivals[0] - timeline.sent for timeline in good if timeline.arrivals]
    gaps = [gap for timeline in good for gap in np.diff(timeline.arrivals).tolist()]
    e2e = [timeline.ended - timeline.sent for timeline in good]
    per_token = [pace for timeline in good if not math.isnan(pace := _per_token(timeline))]
    return Figures(
        requests=len(timelines),
        failed=len(timelines) - len(good),
        seconds=seconds,
        requests_per_s=len(good) / seconds if seconds > 0 else 0.0,
        tokens_per_s=completion / seconds if seconds > 0 else 0.0,
        prompt_tokens=prompt,
        completion_tokens=completion,
        cache_hit_rate=sum(timeline.cached_tokens for timeline in good) / prompt if prompt else 0.0,
        ttft_p50=_percentile_ms(ttft, 50),
        ttft_p99=_percentile_ms(ttft, 99),
        itl_p50=_percentile_ms(gaps, 50),
        itl_p99=_percentile_ms(gaps, 99),
        per_token=_mean_ms(per_token),
        ttft_mean=_mean_ms(ttft),
        ttft_p90=_percentile_ms(ttft, 90),
        ttft_p95=_percentile_ms(ttft, 95),
        itl_mean=_mean_ms(gaps),
        itl_p90=_percentile_ms(gaps, 90),
        itl_p95=_percentile_ms(gaps, 95),
        e2e_mean=_mean_ms(e2e),
        e2e_p50=_percentile_ms(e2e, 50),
        e2e_p90=_percentile_ms(e2e, 90),
        e2e_p95=_percentile_ms(e2e, 95),
        e2e_p99=_percentile_ms(e2e, 99),
        goodput=sum(_keeps(timeline, slo) for timeline in good) / seconds if seconds > 0 else 0.0,
    )


def _per_token(timeline: Timeline) -> float:
    """Seconds between tokens after the first; NaN where there were none."""
    if len(timeline.arrivals) < 2 or timeline.completion_tokens < 2:
        return float("nan")
    return (timeline.arrivals[-1] - timeline.arrivals[0]) / (timeline.completion_tokens - 1)


def _keeps(timeline: Timeline, slo: Slo) -> bool:
    ttft = timeline.arrivals[0] - timeline.sent if timeline.arrivals else float("nan")
    return slo.keeps(1000 * ttft, 1000 * _per_token(timeline), 1000 * (timeline.ended - timeline.sent))


def _mean_ms(seconds: Sequence[float]) -> float:
    return 1000 * float(np.mean(seconds)) if seconds else float("nan")


def _percentile_ms(seconds: Sequence[float], percent: float) -> float:
    return 1000 * float(np.percentile(seconds, percent)) if seconds else float("nan")
