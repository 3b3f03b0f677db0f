"""How many KV positions a decoding row may have ahead of what it is known to have used."""

from __future__ import annotations


def affordable(lease: int, available_slots: int, rows: int) -> int:
    """The lease that every one of ``rows`` could get at once: ``lease``, or less under pressure, at least 1."""
    return max(1, min(lease, available_slots // max(1, rows)))


def runs_low_at(granted: int, lease: int, max_positions: int) -> int:
    """From how many computed positions on less than half of a lease is left; with a lease of 1: none.

    Beyond ``max_positions`` for a row that has all it can use.
    """
    return max_positions + 1 if granted >= max_positions else granted - (lease + 1) // 2 + 1


def limit(computed: int, lease: int, max_positions: int) -> int:
    """The positions to grant in all: never more than the request can use."""
    return min(computed + lease, max_positions)
