"""Whether the scheduler pauses, who waits to be told, and which requests an order to abort several means.

Knows nothing of rows or plans.
"""

from __future__ import annotations

from shared.protocol import AbortMany, Generate, Pause, PauseMode

ABORTED_BY_PAUSE = "generation was paused, which ended all requests"


class Pauses:
    """The state of pausing. It ends with the process: service.py keeps the mode for the next one."""

    def __init__(self) -> None:
        self.mode: PauseMode | None = None
        self._asked: list[Pause] = []

    def begin(self, pause: Pause) -> None:
        """Pause, in this mode from here on; whoever asked is to be answered when nothing is computed any more."""
        self.mode = pause.mode
        self._asked.append(pause)

    def end(self) -> list[Pause]:
        """Pause no more; returns who was waiting for the pause to come into effect."""
        self.mode = None
        return self.answered()

    def answered(self) -> list[Pause]:
        """Who is to be told now."""
        asked, self._asked = self._asked, []
        return asked


def fits(generate: Generate, asked: AbortMany) -> bool:
    """Whether a request is one of those to be ended."""
    if asked.name is not None and asked.name not in generate.names:
        return False
    return asked.tenant is None or generate.tenant == asked.tenant or generate.tenant.startswith(f"{asked.tenant}/")
