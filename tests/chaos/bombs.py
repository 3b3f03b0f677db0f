"""Requests that must be refused, and whose refusal must cost nothing: one of each class that ended other servers."""

from __future__ import annotations

import random
import time
from typing import Any, NamedTuple

import aiohttp
import msgspec

from tests.chaos.history import Connection, Outcome

_PATIENCE_S = 20.0
_PROMPT = {"prompt": "the quick brown"}
_CHAT = [{"role": "user", "content": "the quick brown"}]


class Bomb(NamedTuple):
    """A request, and a word for it."""

    name: str
    path: str
    body: bytes | dict[str, Any]

    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else msgspec.json.encode(self.body)


def _nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


BOMBS = (
    Bomb("no json", "/v1/completions", b'{"prompt": "the'),
    Bomb("not utf-8", "/v1/completions", b'{"prompt": "\xff\xfe"}'),
    Bomb("deep json", "/v1/completions", b'{"prompt": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
    Bomb("no object", "/generate", b"[1, 2, 3]"),
    Bomb("huge n", "/v1/completions", {**_PROMPT, "n": 10**9}),
    Bomb("huge max_tokens", "/v1/completions", {**_PROMPT, "max_tokens": 10**12}),
    Bomb("negative tokens", "/v1/completions", {**_PROMPT, "max_tokens": -1}),
    Bomb("nan", "/v1/completions", b'{"prompt": "the", "temperature": NaN}'),
    Bomb("infinite penalty", "/v1/completions", b'{"prompt": "the", "frequency_penalty": 1e999}'),
    Bomb("empty prompt", "/generate", {"input_ids": []}),
    Bomb("ids out of range", "/generate", {"input_ids": [10**9]}),
    Bomb("negative ids", "/generate", {"input_ids": [-1, 3]}),
    Bomb("long prompt", "/v1/completions", {"prompt": "fox " * 20_000}),
    Bomb("many stops", "/v1/completions", {**_PROMPT, "stop": [str(n) for n in range(10_000)]}),
    Bomb("empty stop", "/v1/completions", {**_PROMPT, "stop": [""]}),
    Bomb("wide regex", "/generate", {"text": "the", "sampling_params": {"regex": "(a|b)*a(a|b){20}"}}),
    Bomb("bad regex", "/generate", {"text": "the", "sampling_params": {"regex": "(((("}}),
    Bomb("deep schema", "/generate", {"text": "the", "sampling_params": {"json_schema": _nested(400)}}),
    Bomb("no such role", "/v1/chat/completions", {"messages": [{"role": 7, "content": None}]}),
    Bomb("many messages", "/v1/chat/completions", {"messages": _CHAT * 20_000}),
    Bomb("big bias", "/v1/completions", {**_PROMPT, "logit_bias": {str(n): 1 for n in range(5000)}}),
    Bomb("no such model", "/v1/completions", {**_PROMPT, "model": "../../etc/passwd"}),
)


class Thrown(NamedTuple):
    """What became of one."""

    bomb: Bomb
    connection: Connection


async def throw(http: aiohttp.ClientSession, url: str, rng: random.Random) -> Thrown:
    """One of them, at random. It should be answered with a 4xx that is no 429."""
    bomb = rng.choice(BOMBS)
    connection = Connection(time.time())
    headers = {"Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
    try:
        async with http.post(url + bomb.path, data=bomb.content(), headers=headers, timeout=timeout) as response:
            connection.status = response.status
            connection.detail = f"{bomb.name}: {(await response.text())[:300]}"
            connection.outcome = Outcome.ENDED if 400 <= response.status < 500 else Outcome.REFUSED
    except TimeoutError:
        connection.outcome, connection.detail = Outcome.HUNG, f"{bomb.name}: {_PATIENCE_S:g} s passed"
    except (aiohttp.ClientError, OSError) as error:
        connection.outcome, connection.detail = Outcome.UNREACHABLE, f"{bomb.name}: {error!r}"
    connection.ended = time.time()
    return Thrown(bomb, connection)
