"""Prometheus metrics across processes: each publishes its own, the front door shows the union.

A process registers its metrics in ``registry``; their text travels with its pulse. Every sample gets
a ``process`` label, so that replicas stay apart and sums are the reader's choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

disable_created_metrics()  # a second sample per metric that nobody asked for

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Histogram buckets for latencies a person notices."""

MICROS = (1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 1e-1)
"""Histogram buckets, in seconds, for work inside a process."""


def exposition(registry: CollectorRegistry) -> bytes:
    """One process's metrics in Prometheus's text format."""
    return generate_latest(registry)


class _Union:
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def union(expositions: Mapping[str, bytes]) -> bytes:
    """Merge the metrics of several processes, ``{process: text}``, into one exposition."""
    families: dict[str, Metric] = {}
    for process, text in sorted(expositions.items()):
        for family in text_string_to_metric_families(text.decode()):
            merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                merged.samples.append(sample._replace(labels={**sample.labels, "process": process}))
    registry = CollectorRegistry()
    registry.register(_Union(families.values()))  # type: ignore[arg-type]
    return generate_latest(registry)
