"""Deaths of which the launcher's log tells, and that nobody caused. Pure."""

from __future__ import annotations

import re

_DEATH = re.compile(r"^(?:\[.*?\] )?(?P<who>[\w -]+?) ended with (?P<how>.+?)(?:; starting it again.*)?$", re.MULTILINE)
_OURS = "signal SIGKILL"


def own_deaths(log: str) -> list[str]:
    """Ends of processes other than by our kill -9: a crash, or an exit that a message did not deserve."""
    return [f"{death['who']} ended with {death['how']}" for death in _DEATH.finditer(log) if death["how"] != _OURS]
