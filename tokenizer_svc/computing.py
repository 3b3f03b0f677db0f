"""Sequences of which clients see no text: announced, awaited and let go, a wave at a time.

For routes that make something else of them than an answer. Knows nothing of what they make.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from shared.protocol import Scores, Vector
from shared.scores import joined
from tokenizer_svc.access.tenants import Caller
from tokenizer_svc.answers import Piece
from tokenizer_svc.api_error import of_failure
from tokenizer_svc.draft import Draft
from tokenizer_svc.engine import Engine
from tokenizer_svc.timing import Timing


class Computed(NamedTuple):
    """What came of one sequence."""

    prompt_tokens: int
    cached_tokens: int
    scores: Scores | None  # of the tokens drawn
    vector: Vector | None
    prompt_scores: Scores | None  # of the prompt, from the first that is wanted on


async def compute(engine: Engine, drafts: Sequence[Draft], caller: Caller) -> list[Computed]:
    """All of them, in order. Raises ApiError for the first that fails, which ends the others."""
    engine.check_room(caller)
    wave = engine.limits.max_sequences
    found: list[Computed] = []
    for start in range(0, len(drafts), wave):
        found += await _wave(engine, drafts[start : start + wave], caller)
    return found


async def _wave(engine: Engine, drafts: Sequence[Draft], caller: Caller) -> list[Computed]:
    arrived = time.perf_counter()
    answer = await engine.submit(drafts, shares_id=True, caller=caller)
    timing = Timing(engine.metrics, answer, arrived)
    pieces: list[Piece] = []
    try:
        await answer.started()
        timing.admitted()
        while not answer.is_over:
            pieces += (news := await answer.pieces())
            timing.received(news)
        if answer.failed is not None:
            raise of_failure(answer.failed, engine.retry_after_s)
    finally:
        engine.abandon(answer)
        timing.over()
    return [
        Computed(
            choice.prompt_tokens,
            choice.cached_tokens,
            joined([piece.scores for piece in pieces if piece.choice is choice]),
            choice.vector,
            choice.prompt_scores,
        )
        for choice in answer.choices
    ]
