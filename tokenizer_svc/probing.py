"""Whether text can be had: a request of one token, made by the server itself, with a bound on its time."""

from __future__ import annotations

import asyncio
import time

from aiohttp import web

from shared.protocol import Sampling
from tokenizer_svc.access.guard import caller_of
from tokenizer_svc.api_error import of_failure, unavailable
from tokenizer_svc.draft import Display, Draft
from tokenizer_svc.engine import Engine

_NAMESPACE = "/health"  # so that a probe is computed, and not found in the cache of what others asked
_PATIENCE_S = 20.0  # as SGLang's


async def probe(engine: Engine, request: web.Request) -> float:
    """Generate one token; how many seconds it took. Raises ApiError 503 where it does not come, or comes too late."""
    began = time.perf_counter()
    card = engine.ready_card()
    if engine.paused:
        raise unavailable("generation is paused: POST /continue_generation ends that", engine.retry_after_s)
    prompt = engine.tokenizer.encode("?", add_special_tokens=False) or [0]
    draft = Draft(
        prompt=0,
        input_ids=[min(prompt[0], card.vocab_size - 1)],
        sampling=Sampling(max_tokens=1, temperature=0.0),
        display=Display(),
        namespace=_NAMESPACE,
        priority=engine.limits.priority,
        timeout_s=_PATIENCE_S,
    )
    answer = await engine.submit([draft], shares_id=True, caller=caller_of(request, None))
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while not answer.is_over:
                await answer.pieces()
    except TimeoutError as error:
        reason = f"no token came within {_PATIENCE_S:g} s: /server_info says what the processes are doing"
        raise unavailable(reason, engine.limits.unready_retry_after_s) from error
    finally:
        engine.abandon(answer)
    if answer.failed is not None:
        raise of_failure(answer.failed, engine.retry_after_s)
    return time.perf_counter() - began
