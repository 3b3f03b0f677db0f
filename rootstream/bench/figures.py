"""What a run amounts to: throughput, latencies, cache hits. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


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


def summarize(timelines: Sequence[Timeline]) -> Figures:
    """The figures of one workload's requests."""
    good = [timeline for timeline in timelines if timeline.error is None]
    seconds = max((t.ended for t in timelines), default=0.0) - min((t.sent for t in timelines), default=0.0)
    prompt = sum(timeline.prompt_tokens for timeline in good)
    completion = sum(timeline.completion_tokens for timeline in good)
    ttft = [timeline.arrivals[0] - timeline.sent for timeline in good if timeline.arrivals]
    gaps = [gap for timeline in good for gap in np.diff(timeline.arrivals).tolist()]
    per_token = [
        (timeline.arrivals[-1] - timeline.arrivals[0]) / (timeline.completion_tokens - 1)
        for timeline in good
        if len(timeline.arrivals) > 1 and timeline.completion_tokens > 1
    ]
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
        per_token=1000 * float(np.mean(per_token)) if per_token else float("nan"),
    )


def _percentile_ms(seconds: Sequence[float], percent: float) -> float:
    return 1000 * float(np.percentile(seconds, percent)) if seconds else float("nan")
