"""What every server is sent: warm-up, agreement, workloads; and what of it is written down."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from typing import Any

import jsonschema

from benchmarks.peers.server import Running, Server
from rootstream.bench import workloads
from rootstream.bench.figures import Timeline, summarize
from rootstream.bench.load import send
from rootstream.bench.run import as_json
from rootstream.bench.workloads import Chat, Completion, Conversation, Request, Structured, Workload
from rootstream.client import Client, NoServer, Refused
from shared.errors import UserError

_PATIENCE_S = 240.0
_WARM_TOKENS = 8
_AGREEING_TOKENS = 24
_ASKED = (
    "The capital of France is",
    "Water boils at a temperature of",
    "def fibonacci(n):\n",
    "Once upon a time, in a small village by the sea, there lived",
)


def workload(name: str, seed: int, scale: float) -> Workload:
    """A named workload in words; ``scale`` makes it shorter, not easier: only the number of requests changes."""
    made = workloads.worded(workloads.make(name, seed=seed))
    return made._replace(requests=made.requests[: max(1, math.ceil(len(made.requests) * scale))])


def warm_up(like: Workload) -> Workload:
    """A first batch of ``like``, with short answers; one where the schema says how long they are."""
    batch = [_short(request) for request in like.requests[: like.concurrency]]
    return like._replace(requests=batch[:1] if isinstance(batch[0], Structured) else batch)


def _short(request: Request) -> Request:
    match request:
        case Conversation():
            return request._replace(questions=request.questions[:1], max_tokens=_WARM_TOKENS)
        case Completion() | Chat():
            return request._replace(max_tokens=_WARM_TOKENS)
        case Structured():
            return request


def invalid_answers(sent: Workload, timelines: Sequence[Timeline]) -> int:
    """How many answers do not obey the schema they were asked to; one that was cut off does not either."""
    schemas = [request.schema for request in sent.requests if isinstance(request, Structured)]
    return sum(
        timeline.error is None and not obeys(timeline.text, schema)
        for timeline, schema in zip(timelines, schemas, strict=False)
    )


def obeys(text: str, schema: dict[str, Any]) -> bool:
    try:
        jsonschema.validate(json.loads(text), schema)
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


class Load:
    """The load on one running server."""

    def __init__(self, server: Server, at: Running, *, seed: int, scale: float) -> None:
        self._dialect = server.dialect
        self._url = at.url
        self._seed = seed
        self._scale = scale

    def greedy_texts(self) -> list[str]:
        """How the server goes on with a few texts: the same model says the same, but for near-ties."""
        asked = [Completion(prompt, _AGREEING_TOKENS) for prompt in _ASKED]
        timelines = self._sent(Workload("agreement", asked, concurrency=1))
        return [timeline.text for timeline in timelines]

    def measured(self, name: str) -> dict[str, Any]:
        """One workload's figures, after a warm-up of its own with other prompts. Raises UserError where all fail."""
        self._sent(warm_up(workload(name, self._seed + 1000, self._scale)))
        asked = workload(name, self._seed, self._scale)
        timelines = self._sent(asked)
        if all(timeline.error is not None for timeline in timelines):
            raise UserError(f"every request failed: {timelines[0].error}")
        figures = as_json({name: summarize(timelines)})[name]
        return {**figures, "invalid": invalid_answers(asked, timelines)}

    def _sent(self, asked: Workload) -> list[Timeline]:
        async def run() -> list[Timeline]:
            async with asyncio.timeout(_PATIENCE_S), Client(self._url) as client:
                return await send(client, await client.first_model(), asked, self._dialect)

        try:
            return asyncio.run(run())
        except TimeoutError:
            raise UserError(f"{asked.name} took more than {_PATIENCE_S:.0f} s") from None
        except (NoServer, Refused) as error:
            raise UserError(f"{asked.name}: {error}") from error
