"""Requests that say what their answer must look like, and what the front door counts of them."""

from __future__ import annotations

from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

CHAT: tuple[str, dict[str, Any]] = ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]})
TEXT: tuple[str, dict[str, Any]] = ("/v1/completions", {"prompt": "hi"})
NATIVE = "/generate"


def bodies(fields: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """One wish at all three APIs."""
    return [(path, body | fields) for path, body in (CHAT, TEXT)] + [(NATIVE, {"text": "a", "sampling_params": fields})]


async def post(http: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> Any:
    async with http.post(path, json=body) as response:
        answer = await response.json()
        assert response.status == 200, answer
        return answer


async def samples(http: aiohttp.ClientSession) -> dict[str, float]:
    """Samples of the front door: name and label values to value."""
    async with http.get("/metrics") as response:
        text = await response.text()
    return {
        " ".join(
            (sample.name, *(value for key, value in sorted(sample.labels.items()) if key != "process"))
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("rootstream_http")
    }


async def compiles(http: aiohttp.ClientSession) -> float:
    found = await samples(http)
    return sum(value for name, value in found.items() if name.startswith("rootstream_http_grammar_compiles"))
