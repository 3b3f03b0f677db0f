"""Metrics of several processes become one exposition."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.parser import text_string_to_metric_families

from shared.metrics import exposition, union


def process(amount: int) -> bytes:
    registry = CollectorRegistry()
    Counter("rootstream_things", "Things", ["kind"], registry=registry).labels("a").inc(amount)
    Histogram("rootstream_seconds", "Time", registry=registry, buckets=(1, 2)).observe(amount)
    return exposition(registry)


def test_the_union_keeps_processes_apart() -> None:
    text = union({"worker:0": process(1), "tokenizer:a": process(2)}).decode()
    samples = {
        (sample.name, sample.labels.get("process"), sample.labels.get("le")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["rootstream_things_total", "worker:0", None] == 1
    assert samples["rootstream_things_total", "tokenizer:a", None] == 2
    assert samples["rootstream_seconds_bucket", "worker:0", "1.0"] == 1
    assert samples["rootstream_seconds_bucket", "tokenizer:a", "1.0"] == 0
    assert text.count("# TYPE rootstream_things_total counter") == 1
