"""Entry ids of streams as values: what a cursor is, and how two compare. Knows nothing of Redis."""

from __future__ import annotations

START = "0-0"  # the cursor before the first entry of any stream


def entry_key(entry_id: str) -> tuple[int, int]:
    """Entry ids ordered: compare these, never the strings."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)


def seconds_of(entry_id: str) -> float:
    """When an entry was written, in unix seconds of Redis's clock."""
    return entry_key(entry_id)[0] / 1000
