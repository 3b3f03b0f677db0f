"""Traces by OpenTelemetry's SDK, sent as OTLP over HTTP by a thread of its own. The only module that imports it.

The variables of the environment that the SDK reads hold: headers, samplers, limits, resource attributes.
"""

from __future__ import annotations

import importlib.metadata
import logging
import threading
import time
from collections.abc import Mapping, Sequence

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry, Counter

from shared.tracing import Attributes

log = structlog.get_logger("traces")

_EXPORT_TIMEOUT_S = 5.0
_CLOSE_S = 3.0
_UNKNOWN = "unknown_service"
_PARENT = "traceparent"

_propagator = TraceContextTextMapPropagator()


class OpenTelemetry:
    """A tracer with an exporter of its own: nothing global, so that several can live in one process."""

    def __init__(self, url: str, role: str, replica: str, registry: CollectorRegistry) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # what matters is said by _Exporter
        resource = Resource.create({"service.namespace": "rootstream", "service.instance.id": replica})
        version = importlib.metadata.version("rootstream")
        if str(resource.attributes.get(SERVICE_NAME, _UNKNOWN)).startswith(_UNKNOWN):
            resource = resource.merge(Resource({SERVICE_NAME: f"rootstream-{role}"}))
        self._provider = TracerProvider(
            resource=resource.merge(Resource({"service.version": version})), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(_Exporter(url, registry)))
        self._tracer = self._provider.get_tracer("rootstream", version)

    def begin(self, name: str, parent: Mapping[str, str], attributes: Attributes) -> _Span:
        context = _propagator.extract({key.lower(): value for key, value in parent.items()})
        return _Span(self._tracer.start_span(name, context, SpanKind.SERVER, attributes, start_time=time.time_ns()))

    def record(
        self, name: str, parent: str, start_ns: int, end_ns: int, attributes: Attributes, failure: str = ""
    ) -> None:
        context = _propagator.extract({_PARENT: parent})
        span = self._tracer.start_span(name, context, attributes=attributes, start_time=start_ns)
        _end(span, max(start_ns, end_ns), failure)

    def close(self) -> None:
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(_CLOSE_S)  # a collector that does not answer must not hold up the end of a process


class _Span:
    def __init__(self, span: OtelSpan) -> None:
        self._span = span
        place = span.get_span_context()
        flags = place.trace_flags
        self.traceparent = f"00-{place.trace_id:032x}-{place.span_id:016x}-{flags:02x}" if flags.sampled else ""

    def add(self, attributes: Attributes) -> None:
        if self._span.is_recording():
            self._span.set_attributes(attributes)

    def rename(self, name: str) -> None:
        if self._span.is_recording():
            self._span.update_name(name)

    def end(self, failure: str = "") -> None:
        if self._span.is_recording():
            _end(self._span, time.time_ns(), failure)


def _end(span: OtelSpan, at_ns: int, failure: str) -> None:
    if failure:
        span.set_attribute("error.type", failure)
        span.set_status(Status(StatusCode.ERROR))
    span.end(at_ns)


class _Exporter(SpanExporter):
    """Counts what is sent and what is not, and says so once when that changes."""

    def __init__(self, url: str, registry: CollectorRegistry) -> None:
        self._url = url
        self._inner = OTLPSpanExporter(endpoint=url, timeout=_EXPORT_TIMEOUT_S)
        self._works = True
        self._spans = Counter(
            "rootstream_trace_spans", "Spans by whether the collector took them.", ("outcome",), registry=registry
        )

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        works = result is SpanExportResult.SUCCESS
        self._spans.labels("sent" if works else "lost").inc(len(spans))
        if works != self._works:
            self._works = works
            log.warning("traces are sent again" if works else "traces cannot be sent", collector=self._url)
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)
