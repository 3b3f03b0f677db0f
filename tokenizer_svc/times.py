"""When what happened to a choice, and how its latency divides between the processes. Knows nothing of clocks.

All moments but the client's are those at which Redis took a message: one clock, in milliseconds, whatever machines
the processes run on.
"""

from __future__ import annotations

import msgspec


class Split(msgspec.Struct, frozen=True):
    """Seconds of a request by process; they add up to its latency."""

    tokenizer: float  # from the client to the announcement, and from the last text to the client
    scheduler: float  # from the announcement to the admission
    worker_prefill: float  # from the admission to the first token
    worker_decode: float  # from there to the last token
    detokenizer: float  # from the last token to its text


class Times:
    """Moments in unix seconds; 0 for what has not happened, or not been seen by this process."""

    __slots__ = ("admitted", "announced", "first", "last", "text")

    def __init__(self) -> None:
        self.announced = 0.0
        self.admitted = 0.0
        self.first = 0.0  # token
        self.last = 0.0  # token, so far
        self.text = 0.0  # of the last token

    def tokens(self, stepped: float, written: float) -> None:
        """Tokens that a step of ``stepped`` made, whose text was there at ``written``."""
        self.first = self.first or stepped
        self.last, self.text = stepped, written

    @property
    def are_known(self) -> bool:
        return 0 < self.announced <= self.admitted <= self.first <= self.last <= self.text

    def split(self, elapsed: float) -> Split | None:
        """How ``elapsed`` seconds since the client's request divide; None where a moment is not known."""
        if not self.are_known:
            return None
        return Split(
            tokenizer=max(0.0, elapsed - (self.text - self.announced)),
            scheduler=self.admitted - self.announced,
            worker_prefill=self.first - self.admitted,
            worker_decode=self.last - self.first,
            detokenizer=self.text - self.last,
        )
