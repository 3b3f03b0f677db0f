"""How many KV positions a decoding row may have ahead of what it is known to have used."""

from __future__ import annotations


def affordable(lease: int, available_slots: int, rows: int) -> int:
    """The lease that every one of ``rows`` could get at once: ``lease``, or less under pressure, at least 1."""
    return max(1, min(lease, available_slots // max(1, rows)))


def runs_low(granted: int, computed: int, lease: int) -> bool:
    """Is less than half of a lease left? With a lease of 1: is it used up?"""
    return 2 * (granted - computed) < lease


def limit(computed: int, lease: int, max_positions: int) -> int:
    """The positions to grant in all: never more than the request can use."""
    return min(computed + lease, max_positions)
