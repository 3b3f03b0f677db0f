"""The JSON log lines of child processes, made readable for people. Pure."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

_SHOWN_APART = frozenset({"event", "level", "timestamp", "role", "replica", "exception"})


class LogLine(NamedTuple):
    """One line of a process's stderr. ``level`` is empty where it is not one of our log lines."""

    level: str
    text: str


def read(line: str) -> LogLine:
    """Understand a line: a JSON log line becomes `event  key=value …`, anything else stays as it is."""
    fields = _fields(line)
    if fields is None:
        return LogLine("", line)
    words = [str(fields["event"])]
    words += [f"{key}={value}" for key, value in fields.items() if key not in _SHOWN_APART]
    text = "  ".join(words)
    if "exception" in fields:
        text += "\n" + str(fields["exception"]).rstrip()
    return LogLine(str(fields.get("level", "")), text)


def last_error(lines: list[str]) -> str | None:
    """The message of the newest error line, None where there is none."""
    for line in reversed(lines):
        fields = _fields(line)
        if fields is not None and fields.get("level") in {"error", "critical"}:
            return str(fields["event"])
    return None


def _fields(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    return fields if "event" in fields else None
