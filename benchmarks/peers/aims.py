"""What is compared and what is aimed at: one line of the table each. Pure."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Better(Enum):
    """Which way is better."""

    MORE = "≥"
    LESS = "≤"


class Aim(NamedTuple):
    """A figure and the least, or most, that ours may be, as a multiple of a peer's."""

    title: str
    workload: str | None
    """None for what belongs to a server as a whole."""

    field: str
    better: Better
    unit: str
    against_vllm: float
    against_llama: float

    def bound(self, peer: str) -> float:
        return self.against_vllm if peer.startswith("vllm") else self.against_llama

    def met(self, ratio: float, peer: str) -> bool:
        bound = self.bound(peer)
        return ratio >= bound if self.better is Better.MORE else ratio <= bound


_WORKLOADS = ("shared-prefix", "distinct", "chat", "json", "single")

AIMS = (
    Aim("shared-prefix", "shared-prefix", "requests_per_s", Better.MORE, "requests/s", 2.5, 5.0),
    Aim("distinct", "distinct", "requests_per_s", Better.MORE, "requests/s", 1.8, 1.6),
    Aim("chat, 8 × 4 turns", "chat", "requests_per_s", Better.MORE, "requests/s", 2.0, 2.0),
    Aim("JSON schema, long keys", "json", "requests_per_s", Better.MORE, "requests/s", 3.0, 3.0),
    Aim("single stream", "single", "per_token", Better.LESS, "ms/token", 0.5, 1.0),
    *(Aim(f"TTFT p50, {name}", name, "ttft_p50", Better.LESS, "ms", 1.0, 1.0) for name in _WORKLOADS),
    Aim("start to ready", None, "ready_s", Better.LESS, "s", 1.0, 2.0),
    Aim("peak memory", None, "peak_pss_mib", Better.LESS, "MiB", 1.0, 2.0),
)
