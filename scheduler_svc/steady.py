"""Steps in which the same rows get one more token each, noted whole: what most steps are.

A row's tokens are handed over when somebody looks at them, many steps at a time. That is as good as at once as
long as nobody looks, no row ends and none runs low of its lease: see Scheduler, which settles before it does
anything else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scheduler_svc.request import Request
from shared.protocol import Step


class SteadySteps:
    """Steps noted since ``opening``, the last one that was taken row by row."""

    def __init__(self, opening: Step, rows: Sequence[Request | None], room: int) -> None:
        """``rows`` of the opening step, None for one that is not known; ``room`` tokens till the first runs low."""
        self._opening = opening
        self._rows = rows
        self._room = room
        self._width = len(opening.tokens)
        self.steps: list[Step] = []

    def note(self, step: Step) -> bool:
        """Keep a step that goes on where the last one stopped. False for any other."""
        opening, steps = self._opening, self.steps
        if (
            len(steps) >= self._room
            or step.seq != opening.seq + len(steps) + 1
            or step.ids != opening.ids
            or step.counts != opening.counts
            or step.finishes != opening.finishes
            or len(step.tokens) != self._width
            or len(step.firsts) != self._width
            or step.errors
        ):
            return False
        steps.append(step)
        return True

    @property
    def follow(self) -> bool:
        """The steps follow each other in the token indices of every row."""
        if not self.steps:
            return True
        firsts = np.frombuffer(b"".join(step.firsts for step in self.steps), "<i4").reshape(len(self.steps), -1)
        ahead = np.arange(1, len(self.steps) + 1, dtype=np.int32)[:, None]
        return np.array_equal(firsts, np.frombuffer(self._opening.firsts, "<i4") + ahead)

    def settle(self) -> int:
        """Give every row its tokens, if the steps ``follow``. Returns how many."""
        count, given = len(self.steps), 0
        if not count:
            return 0
        tokens = np.frombuffer(b"".join(step.tokens for step in self.steps), "<i4").reshape(count, -1)
        by_row, size = tokens.T.tobytes(), 4 * count
        for position, request in enumerate(self._rows):
            if request is not None:
                request.output.frombytes(by_row[position * size : (position + 1) * size])
                given += count
        return given
