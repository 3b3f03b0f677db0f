"""Steps in which the same rows get one more token each, and none is forced: noted whole, as most steps are that.

A row's tokens are handed over when somebody looks at them, many steps at a time. That is as good as at once as
long as nobody looks, no row ends and none runs low of its lease: see Scheduler, which settles before it does
anything else. Knows nothing of the rows' pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scheduler_svc.request import Request
from shared.protocol import Step

_MOST = 64  # steps kept, however long the leases


class Settled(NamedTuple):
    """What came of the steps noted."""

    tokens: int  # handed over
    low: list[Request]  # rows whose lease runs low now


class SteadySteps:
    """Steps noted since ``opening``, the last one whose tokens the rows have."""

    def __init__(self, opening: Step, rows: Sequence[Request | None]) -> None:
        """``rows`` of the opening step, in its order; None for one that is not known."""
        self.steps: list[Step] = []
        self._opening = opening
        self._rows = rows
        self._room: int | None = None  # steps till the first row runs low; None where it must be looked up

    def note(self, step: Step) -> bool:
        """Keep a step that goes on where the last one stopped. False for any other."""
        if self._room is None:
            left = (request.low_at - len(request.output) for request in self._rows if request is not None)
            self._room = min(left, default=0)
        opening, steps = self._opening, self.steps
        if (
            len(steps) >= self._room
            or step.seq != opening.seq + len(steps) + 1
            or step.ids != opening.ids
            or step.counts != opening.counts
            or step.finishes != opening.finishes
            or len(step.tokens) != len(step.counts)
            or len(step.firsts) != len(step.counts)
            or step.pending
            or step.errors
            or step.scores
            or step.vectors
        ):
            return False
        steps.append(step)
        return True

    @property
    def left(self) -> int:
        """How many more such steps may come before a row runs low; 0 where that is not known."""
        return 0 if self._room is None else self._room - len(self.steps)

    @property
    def step_s(self) -> float:
        """How long a step takes, by the last one's word."""
        last = self.steps[-1] if self.steps else self._opening
        return (last.forward_us + last.gap_us) / 1e6

    @property
    def due(self) -> bool:
        """It is time to settle: a row runs low, or there are many steps."""
        return len(self.steps) == self._room or len(self.steps) >= _MOST

    @property
    def follow(self) -> bool:
        """The steps follow each other in the token indices of every row."""
        if not self.steps:
            return True
        firsts = np.frombuffer(b"".join([step.firsts for step in self.steps]), "<i4").reshape(len(self.steps), -1)
        ahead = np.arange(1, len(self.steps) + 1, dtype=np.int32)[:, None]
        return np.array_equal(firsts, np.frombuffer(self._opening.firsts, "<i4") + ahead)

    def settle(self) -> Settled:
        """Give every row its tokens, if the steps ``follow``; the next one goes on from here."""
        count, given = len(self.steps), 0
        low: list[Request] = []
        self._room = None
        if not count:
            return Settled(0, low)
        tokens = np.frombuffer(b"".join([step.tokens for step in self.steps]), "<i4").reshape(count, -1)
        by_row, size, end = tokens.T.tobytes(), 4 * count, 0
        for request in self._rows:
            end += size
            if request is not None:
                request.output.frombytes(by_row[end - size : end])
                given += count
                if len(request.output) >= request.low_at:
                    low.append(request)
        self._opening = self.steps[-1]
        self.steps = []
        return Settled(given, low)
