"""The worker's numbers as Prometheus metrics."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, Metric

from gpu_worker.grammar.mask_pool import MaskPool
from shared.metrics import SECONDS
from shared.protocol import Step


class WorkerMetrics:
    """What the worker counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.steps = Counter("rootstream_worker_steps", "Forward passes", registry=registry)
        self.tokens = Counter("rootstream_worker_computed_tokens", "Tokens through the model", registry=registry)
        self.step_seconds = Histogram(
            "rootstream_worker_step_seconds", "Duration of a forward pass", registry=registry, buckets=SECONDS
        )
        self.gap_seconds = Counter(
            "rootstream_worker_gap_seconds", "Time between steps while rows were in the batch", registry=registry
        )
        self.batch = Gauge("rootstream_worker_step_tokens", "Tokens in the last forward pass", registry=registry)

    def observe(self, step: Step) -> None:
        if step.computed:
            self.steps.inc()
            self.tokens.inc(step.computed)
            self.step_seconds.observe(step.forward_us / 1e6)
            self.gap_seconds.inc(step.gap_us / 1e6)
            self.batch.set(step.computed)


class MaskMetrics:
    """What became of token masks and grammars. Read from the pool whenever somebody asks."""

    def __init__(self, registry: CollectorRegistry, masks: MaskPool) -> None:
        self._masks = masks
        self.loaded = Counter("rootstream_worker_grammars", "Grammars made ready for rows", registry=registry)
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Called by the registry."""
        masks = self._masks
        yield CounterMetricFamily("rootstream_worker_masks_built", "Token masks built", masks.built)
        yield CounterMetricFamily("rootstream_worker_masks_reused", "Token masks found in the pool", masks.hits)
