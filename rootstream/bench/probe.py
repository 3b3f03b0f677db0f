"""How a server wants to be asked: found out by asking it, from what most servers know down to what all do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from rootstream.bench.load import Dialect
from rootstream.client import Client, Refused

_UNSUITED = frozenset({400, 404, 405, 415, 422, 500, 501})


class Asked(NamedTuple):
    """What a server understands."""

    dialect: Dialect
    takes_ids: bool  # prompts of token ids
    has_completions: bool  # else everything is asked as a chat


async def probe(client: Client, model: str) -> Asked:
    """Ask for a token in each way until one is understood. Raises Refused with what the first refusal said."""
    exact = {"ignore_eos": True}
    first: Refused | None = None
    for whole_length in (exact, {}):
        for path, prompt in (
            ("/v1/completions", {"prompt": [100, 101, 102]}),
            ("/v1/completions", {"prompt": "Hello"}),
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}]}),
        ):
            for limit in ("max_tokens", "max_completion_tokens"):
                if limit == "max_completion_tokens" and "prompt" in prompt:
                    continue
                body: Mapping[str, Any] = {"model": model, **prompt, limit: 4, "temperature": 0, **whole_length}
                try:
                    await client.post(path, body)
                except Refused as refused:
                    if refused.status not in _UNSUITED:
                        raise
                    first = first or refused
                    continue
                dialect = Dialect(whole_length=whole_length, max_tokens=limit)
                return Asked(dialect, isinstance(prompt.get("prompt"), list), "prompt" in prompt)
    assert first is not None
    raise first
