"""Which charts are drawn of the file of results. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.growth.svg import Chart


def charts(report: Mapping[str, Any]) -> dict[str, Chart]:
    """Charts by the names of their files, of those parts that the report has."""
    note = f"{report['measured'][:10]}, {report['machine']}"
    found: dict[str, Chart] = {}
    if scheduler := report.get("scheduler"):
        found["scheduler-rows"] = Chart(
            "Scheduler: CPU of a round, by rows",
            "rows decoding",
            "µs, mean",
            _means(scheduler["rows"]),
            note,
            log_y=True,
        )
        waiting = {name: {x: y for x, y in line.items() if x} for name, line in _means(scheduler["waiting"]).items()}
        found["scheduler-waiting"] = Chart(
            "Scheduler: CPU of a round, by requests waiting", "waiting, 64 rows decoding", "µs, mean", waiting, note
        )
    if tree := report.get("tree"):
        lines = _means(tree["operations"], "p50_us")
        found["radix-tree"] = Chart("Radix tree: CPU of an operation", "cached tokens", "µs, median", lines, note)
    if path := report.get("path"):
        replicas = path["replicas"].items()
        lines = {
            f"{load}, {name}": {float(count): found[load][field] for count, found in replicas}
            for load in ("alone", "16 at once")
            for name, field in (("p50", "ttft_p50"), ("p99", "ttft_p99"))
        }
        found["path"] = Chart(
            "Time to first token, tiny model", "front doors and detokenizers, each", "ms", lines, note
        )
    if worker := report.get("worker"):
        lines = {"gap": {float(streams): figures["gap_us"] for streams, figures in worker["streams"].items()}}
        found["worker-gap"] = Chart("Worker: idle between two steps", "streams", "µs, mean", lines, note)
    return found


def _means(lines: Mapping[str, Mapping[str, Any]], field: str = "mean_us") -> dict[str, dict[float, float]]:
    return {name: {float(x): figures[field] for x, figures in line.items()} for name, line in lines.items()}
