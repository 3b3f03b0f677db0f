"""The scheduler's numbers as Prometheus metrics. Read from the scheduler whenever somebody asks."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from scheduler_svc.scheduler import Scheduler
from shared.metrics import MICROS, SECONDS


class Instruments:
    """Collects counters from the scheduler; samples for histograms gather until ``observe``."""

    def __init__(self, registry: CollectorRegistry, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._queue = Histogram(
            "rootstream_queue_seconds", "From submission to admission", buckets=SECONDS, registry=registry
        )
        self._ttft = Histogram(
            "rootstream_scheduler_ttft_seconds",
            "From submission to the first token, as the scheduler sees it",
            buckets=SECONDS,
            registry=registry,
        )
        self._round = Histogram(
            "rootstream_scheduler_round_seconds",
            "CPU time of one round: steps read, plans made",
            buckets=MICROS,
            registry=registry,
        )
        self._rounds_s: list[float] = []
        registry.register(self)

    def on_round(self, seconds: float) -> None:
        self._rounds_s.append(seconds)

    def observe(self) -> None:
        """Put samples into the histograms: now and then, as one by one costs a round 10 us of cold code."""
        stats = self._scheduler.stats
        for sample in self._rounds_s:
            self._round.observe(sample)
        self._rounds_s.clear()
        for sample in stats.queue_s:
            self._queue.observe(sample)
        for sample in stats.ttft_s:
            self._ttft.observe(sample)
        stats.queue_s.clear()
        stats.ttft_s.clear()

    def collect(self) -> Iterable[Metric]:
        """Called by the registry."""
        scheduler, stats = self._scheduler, self._scheduler.stats
        requests = CounterMetricFamily("rootstream_requests", "Requests ended, by outcome", labels=["outcome"])
        for outcome, count in stats.outcomes.items():
            requests.add_metric([outcome], count)
        yield requests
        yield CounterMetricFamily("rootstream_prompt_tokens", "Prompt tokens of started requests", stats.prompt_tokens)
        yield CounterMetricFamily("rootstream_cached_tokens", "Prompt tokens found in the cache", stats.cached_tokens)
        yield CounterMetricFamily("rootstream_generated_tokens", "Tokens generated", stats.generated_tokens)
        yield CounterMetricFamily("rootstream_forced_tokens", "Tokens that a grammar forced", stats.forced_tokens)
        yield CounterMetricFamily("rootstream_preemptions", "Requests taken off the worker", stats.preemptions)
        yield CounterMetricFamily("rootstream_epochs", "Times a worker was opened", stats.epochs)
        yield CounterMetricFamily("rootstream_audits", "Times the accounts of KV pages were proved", stats.audits)
        yield CounterMetricFamily(
            "rootstream_failed_audits", "Times they were wrong, and made anew", stats.failed_audits
        )
        cache = scheduler.batch.cache if scheduler.batch else None
        evicted = stats.evicted_pages + (cache.evicted if cache else 0)
        yield CounterMetricFamily("rootstream_evicted_pages", "KV pages evicted", evicted)
        given_up = stats.given_up_contexts + (cache.contexts.given_up if cache else 0)
        yield CounterMetricFamily("rootstream_contexts_given_up", "Contexts whose KV made room", given_up)
        yield GaugeMetricFamily("rootstream_queue_requests", "Requests waiting", scheduler.waiting)
        yield GaugeMetricFamily("rootstream_running_requests", "Requests on the worker", scheduler.running)
        if cache is None:
            return
        yield GaugeMetricFamily("rootstream_kv_pages", "KV pages in all", cache.pool.num_pages)
        yield GaugeMetricFamily("rootstream_kv_pages_used", "KV pages held by requests", cache.held)
        yield GaugeMetricFamily("rootstream_kv_pages_cached", "KV pages in the radix tree", cache.tree.cached_pages)
        yield GaugeMetricFamily("rootstream_kv_pages_contexts", "KV pages kept for contexts", cache.tree.kept_pages)
        yield GaugeMetricFamily("rootstream_contexts", "Contexts whose KV is kept", len(cache.contexts))
