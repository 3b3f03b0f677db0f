"""Traces: what each process tells an OpenTelemetry collector of a request's way through it. Off unless there is one.

Owns the decision whether anything is told, and how a request's place in its trace is written in messages: a W3C
traceparent, empty where it is not traced. Knows no request; the packages of OpenTelemetry are imported by
:mod:`shared.otel` alone, and only where traces are on.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry

from shared.config import Settings, trace_target
from shared.errors import UserError

log = structlog.get_logger("traces")

Attributes = Mapping[str, str | int | float | bool | Sequence[str]]

REQUEST_ID = "rootstream.request.id"
"""A sequence, in hexadecimal, as its answer's id ends: an HTTP request may have several."""

_PROTOCOL = "http/protobuf"


class Span(Protocol):
    """One piece of work under way."""

    @property
    def traceparent(self) -> str:
        """What its children are told; empty where the trace is not recorded."""
        ...

    def add(self, attributes: Attributes) -> None:
        """Say more of it. Too late is no error."""
        ...

    def rename(self, name: str) -> None:
        """Call it by what is known of it by now. Too late is no error."""
        ...

    def end(self, failure: str = "") -> None:
        """It is done, or has failed; the first end counts."""
        ...


class Tracing(Protocol):
    """What a process tells of its work. Nothing here waits for the collector."""

    def begin(self, name: str, parent: Mapping[str, str], attributes: Attributes) -> Span:
        """Work for somebody outside begins; ``parent`` has the headers that came with it."""
        ...

    def record(
        self, name: str, parent: str, start_ns: int, end_ns: int, attributes: Attributes, failure: str = ""
    ) -> None:
        """Work that is over, in unix nanoseconds, as a child of what ``parent`` names."""
        ...

    def close(self) -> None:
        """Tell what is left, in a few seconds at most. Blocks."""
        ...


def start(settings: Settings, role: str, replica: str, registry: CollectorRegistry) -> Tracing | None:
    """Traces of one process, None where they are off. Raises UserError where they are asked for and cannot be had.

    What only the environment asks for, perhaps on behalf of all programs of a machine, is done where it can be.
    """
    target = trace_target(settings)
    if target is None:
        return None
    if importlib.util.find_spec("opentelemetry") is None or importlib.util.find_spec("opentelemetry.sdk") is None:
        reason = "traces need the packages of OpenTelemetry: pip install 'rootstream[otel]'"
    elif target.protocol != _PROTOCOL:
        reason = f"traces are sent as {_PROTOCOL}, not {target.protocol}: set OTEL_EXPORTER_OTLP_PROTOCOL={_PROTOCOL}"
    else:
        from shared.otel import OpenTelemetry

        return OpenTelemetry(target.url, role, replica, registry)
    if target.is_setting:
        raise UserError(f"--otel-endpoint: {reason}")
    log.warning("no traces", reason=reason)
    return None
