"""What traces say of rows in the worker: one span for a row's prefill and one for its decoding, whatever the steps.

Follows plans and steps; the engine knows nothing of it. Times are unix nanoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared import columns
from shared.protocol import Admit, Plan, Step
from shared.tracing import REQUEST_ID, Tracing

PREFILL, DECODE = "worker.prefill", "worker.decode"


@dataclass(slots=True)
class _Row:
    admit: Admit
    since_ns: int  # of the span under way
    is_decoding: bool = False
    chunks: int = 0
    steps: int = 0
    tokens: int = 0
    forward_us: int = 0  # of the steps it took part in, beside others


class RowSpans:
    """The rows that are traced. Costs nothing for those that are not."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._rows: dict[int, _Row] = {}

    def opened(self) -> None:
        """A new epoch: all rows are forgotten."""
        self._rows.clear()

    def planned(self, plan: Plan, now_ns: int) -> None:
        """Rows leave, join, and are given chunks."""
        if self._rows:
            for id in columns.longs(plan.releases):
                self._end(id, now_ns, "released")
        for admit in plan.admits:
            if admit.trace:
                self._rows[admit.id] = _Row(admit, now_ns)
        if self._rows:
            for id in columns.longs(plan.chunk_ids):
                if (row := self._rows.get(id)) is not None:
                    row.chunks += 1

    def stepped(self, step: Step, now_ns: int) -> None:
        """What a step did for each row."""
        if not self._rows:
            return
        for id, count, finish in zip(columns.longs(step.ids), columns.ints(step.counts), step.finishes, strict=True):
            row = self._rows.get(id)
            if row is None:
                continue
            if count and not row.is_decoding:
                self._record_prefill(id, row, now_ns)
                row.is_decoding, row.since_ns = True, now_ns
            elif count:
                row.steps += 1
                row.forward_us += step.forward_us
            row.tokens += count
            if finish:
                self._end(id, now_ns)
        for id, _ in step.errors:
            self._end(id, now_ns, "worker_error")

    def _end(self, id: int, now_ns: int, failure: str = "") -> None:
        row = self._rows.pop(id, None)
        if row is None:
            return
        if not row.is_decoding:
            self._record_prefill(id, row, now_ns, failure)
            return
        attributes = {
            REQUEST_ID: f"{id:016x}",
            "rootstream.output_tokens": row.tokens,
            "rootstream.steps": row.steps,
            "rootstream.forward_seconds": row.forward_us / 1e6,
        }
        self._tracing.record(DECODE, row.admit.trace, row.since_ns, now_ns, attributes, failure)

    def _record_prefill(self, id: int, row: _Row, now_ns: int, failure: str = "") -> None:
        attributes = {
            REQUEST_ID: f"{id:016x}",
            "rootstream.input_tokens": len(row.admit.input_ids) // 4,
            "rootstream.cached_tokens": row.admit.cached_len,
            "rootstream.chunks": row.chunks,
        }
        self._tracing.record(PREFILL, row.admit.trace, row.since_ns, now_ns, attributes, failure)
