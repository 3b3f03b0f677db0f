"""One thing that the doctor has to say."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple

from shared.errors import UserError


class State(enum.StrEnum):
    """How good that is."""

    OK = "ok"
    WARNING = "warning"  # serving works, but not as well as it might
    PROBLEM = "problem"  # serving does not work


class Finding(NamedTuple):
    """A line of the report; ``advice`` says what to do where it is not well."""

    subject: str
    text: str
    state: State = State.OK
    advice: str = ""

    @property
    def ok(self) -> bool:
        return self.state is not State.PROBLEM


def attempt(subject: str, look: Callable[[], str], advice: str = "") -> Finding:
    """What a look finds; a problem where it fails, whose message says what to do."""
    try:
        return Finding(subject, look())
    except (UserError, RuntimeError, OSError) as error:
        return Finding(subject, str(error), State.PROBLEM, advice)
