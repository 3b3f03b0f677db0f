"""CPU time of the scheduler's core as rows, queue and cache grow. The measures are those of benchmarks.scheduler."""

from __future__ import annotations

import gc
import statistics
from typing import Any

from benchmarks.scheduler import Figure, churn, matches, rounds

ROWS = (16, 64, 256, 1000)
WAITING = (0, 1000, 3000, 10_000)
CACHED_TOKENS = (10_000, 100_000, 1_000_000)
_QUEUE_ROWS = 64


def scheduler(count: int) -> dict[str, Any]:
    """Mean and median microseconds of a round: by rows, all decoding or four of them replaced, and by queue."""
    return {
        "rows": {
            "all rows go on": {rows: _told(rounds(rows, 16, 0, count)) for rows in ROWS},
            "4 end, 4 start": {rows: _told(churn(rows, 2000 + rows, count)) for rows in ROWS},
        },
        "waiting": {
            "all rows go on": {waiting: _told(rounds(_QUEUE_ROWS, 16, waiting, count)) for waiting in WAITING},
            "4 end, 4 start": {waiting: _told(churn(_QUEUE_ROWS, max(waiting, 100), count)) for waiting in WAITING},
        },
    }


def tree() -> dict[str, Any]:
    """Microseconds of each operation of the radix tree by cached tokens, pages of 16."""
    found: dict[str, dict[int, Any]] = {}
    for tokens in CACHED_TOKENS:
        for figure in matches(tokens, 16):
            found.setdefault(figure.name.partition(f", {tokens:,} cached")[0], {})[tokens] = _told(figure)
    return {"operations": found}


def _told(figure: Figure) -> dict[str, float]:
    gc.unfreeze()  # what the measure froze is of no use to the next
    gc.collect()
    ordered = sorted(figure.samples)
    return {
        "mean_us": round(statistics.mean(ordered), 2),
        "p50_us": round(ordered[len(ordered) // 2], 2),
        "p99_us": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 2),
    }
