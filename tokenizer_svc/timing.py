"""What one answer adds to the metrics, and to its trace."""

from __future__ import annotations

import time
from collections.abc import Sequence

from shared.protocol import Finish
from tokenizer_svc.answers import Answer, Piece
from tokenizer_svc.metrics import Metrics
from tokenizer_svc.tracing import current


class Timing:
    """Clocks of one answer."""

    def __init__(self, metrics: Metrics, answer: Answer, arrived: float) -> None:
        """``arrived``: time.perf_counter() at the request's arrival."""
        self._metrics = metrics
        self._answer = answer
        self._arrived = arrived
        self._announced = time.perf_counter()
        self._last: dict[int, float] = {}
        self._trace = current()
        self._since_ns = time.time_ns() if self._trace else 0
        self._first_s: float | None = None

    def admitted(self) -> None:
        self._metrics.admission.observe(time.perf_counter() - self._announced)

    def received(self, pieces: Sequence[Piece]) -> None:
        now = time.perf_counter()
        for piece in pieces:
            if not piece.tokens:
                continue
            last = self._last.get(piece.choice.index)
            if last is None:
                self._metrics.ttft.observe(now - self._arrived)
            else:
                self._metrics.itl.observe((now - last) / len(piece.tokens))
            self._last[piece.choice.index] = now
        if self._first_s is None and self._last:
            self._first_s = now - self._arrived
            if self._trace is not None:
                self._trace.record("door.wait", self._since_ns)
                self._since_ns = time.time_ns()

    def over(self) -> None:
        whole_s = time.perf_counter() - self._arrived
        self._metrics.e2e.observe(whole_s)
        for choice in self._answer.choices:
            self._metrics.generated_tokens.inc(choice.completion_tokens)
            self._metrics.forced_tokens.inc(choice.forced_tokens)
            reason = "unfinished" if choice.finish is Finish.NONE else choice.finish.name.lower()
            self._metrics.finished.labels("failed" if self._answer.failed else reason).inc()
        if self._trace is not None:
            name = "door.wait" if self._first_s is None else "door.stream"
            self._trace.record(name, self._since_ns, failure="" if self._answer.is_over else "disconnected")
            self._trace.over(self._answer, self._first_s, whole_s)
