"""What the scheduler counts: plain numbers, exported by whoever runs it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stats:
    """Totals since the process started. Lists hold samples until somebody takes them."""

    outcomes: Counter[str] = field(default_factory=Counter[str])  # requests ended, by outcome
    prompt_tokens: int = 0  # of requests that started
    cached_tokens: int = 0  # of those, not computed because the tree had them
    generated_tokens: int = 0
    forced_tokens: int = 0  # of those, tokens that a grammar left no choice about
    preemptions: int = 0
    evicted_pages: int = 0  # in epochs before this one
    given_up_contexts: int = 0  # in epochs before this one
    epochs: int = 0
    audits: int = 0
    failed_audits: int = 0
    queue_s: list[float] = field(default_factory=list[float])  # submission to admission
    ttft_s: list[float] = field(default_factory=list[float])  # submission to the first token
