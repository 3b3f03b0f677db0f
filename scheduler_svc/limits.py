"""What the operator decides about scheduling; the worker's card says the rest."""

from __future__ import annotations

from typing import NamedTuple

from scheduler_svc.policy import Policy


class Limits(NamedTuple):
    """Settings of one scheduler."""

    lease: int = 16  # KV slots granted ahead
    max_queue: int = 2048  # waiting requests
    policy: Policy = Policy.LPM
    radix_cache: bool = True
    context_keep_s: float = 600.0  # after its last use
