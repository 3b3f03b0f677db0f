"""What traces say of requests in the scheduler: how long each waited, and until its first token came.

Follows the messages that come and go; the scheduler itself knows nothing of it. Times are unix nanoseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shared import columns
from shared.protocol import Generate, Plan, Step
from shared.tracing import REQUEST_ID, Attributes, Tracing

QUEUE, PREFILL = "scheduler.queue", "scheduler.prefill"


@dataclass(slots=True)
class _Traced:
    trace: str
    since_ns: int  # in the queue, or admitted
    admissions: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    chunks: int = 0


class RequestSpans:
    """Requests that are traced, by where they are. Costs nothing for those that are not."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._waiting: dict[int, _Traced] = {}
        self._prefilling: dict[int, _Traced] = {}
        self._running: dict[int, _Traced] = {}

    def announced(self, generate: Generate, now_ns: int) -> None:
        """A request came, perhaps once more."""
        places = (self._waiting, self._prefilling, self._running)
        if generate.trace and not any(generate.id in place for place in places):
            self._waiting[generate.id] = _Traced(generate.trace, now_ns)

    def planned(self, plan: Plan, now_ns: int) -> None:
        """Rows join the batch, are computed in chunks, or go back to the queue."""
        if self._prefilling or self._running:
            for id in columns.longs(plan.releases):
                traced = self._prefilling.pop(id, None) or self._running.pop(id, None)
                if traced is not None:
                    self._waiting[id] = _Traced(traced.trace, now_ns, traced.admissions)
        if self._waiting:
            for admit in plan.admits:
                if (traced := self._waiting.pop(admit.id, None)) is not None:
                    self._admitted(admit.id, traced, now_ns, len(admit.input_ids) // 4, admit.cached_len)
        if self._prefilling:
            for id in columns.longs(plan.chunk_ids):
                if id in self._prefilling:
                    self._prefilling[id].chunks += 1

    def stepped(self, step: Step, now_ns: int) -> None:
        """First tokens end a prefill."""
        if not self._prefilling:
            return
        for id, count, finish in zip(columns.longs(step.ids), columns.ints(step.counts), step.finishes, strict=True):
            if (count or finish) and (traced := self._prefilling.pop(id, None)) is not None:
                self._record_prefill(id, traced, now_ns)
                self._running[id] = traced

    def ended(self, ids: Iterable[int], now_ns: int) -> None:
        """Requests that are live no more, however they ended."""
        if not (self._waiting or self._prefilling or self._running):
            return
        for id in ids:
            self._running.pop(id, None)
            if (traced := self._waiting.pop(id, None)) is not None:
                self._record(QUEUE, id, traced, now_ns, _again(traced), "not_admitted")
            if (traced := self._prefilling.pop(id, None)) is not None:
                self._record_prefill(id, traced, now_ns, "ended_early")

    def _admitted(self, id: int, traced: _Traced, now_ns: int, tokens: int, cached: int) -> None:
        waited_s = (now_ns - traced.since_ns) / 1e9
        self._record(QUEUE, id, traced, now_ns, {"gen_ai.latency.time_in_queue": waited_s, **_again(traced)})
        self._prefilling[id] = _Traced(traced.trace, now_ns, traced.admissions + 1, tokens, cached)

    def _record_prefill(self, id: int, traced: _Traced, now_ns: int, failure: str = "") -> None:
        attributes: Attributes = {
            "rootstream.input_tokens": traced.prompt_tokens,
            "rootstream.cached_tokens": traced.cached_tokens,
            "rootstream.chunks": traced.chunks,
        }
        self._record(PREFILL, id, traced, now_ns, attributes, failure)

    def _record(
        self, name: str, id: int, traced: _Traced, now_ns: int, attributes: Attributes, failure: str = ""
    ) -> None:
        told = {REQUEST_ID: f"{id:016x}", **attributes}
        self._tracing.record(name, traced.trace, traced.since_ns, now_ns, told, failure)


def _again(traced: _Traced) -> Attributes:
    """How often it had been admitted before it came (back) to the queue."""
    return {"rootstream.earlier_admissions": traced.admissions}
