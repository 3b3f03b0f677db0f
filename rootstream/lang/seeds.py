"""Seeds that depend on where a generation stands in its program, not on when it ran. Pure."""

from __future__ import annotations

import hashlib

_BITS = 31  # what every server takes


def derived_seed(seed: int, branch: str, place: int) -> int:
    """Of the generation that is number ``place`` on ``branch``, in a program that was given ``seed``."""
    digest = hashlib.blake2b(f"{seed}/{branch}/{place}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - _BITS)
