"""One line for each request, with what is needed to find it in other processes, and no word of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from tests.stack import running

PROMPT = "the quick brown fox"


async def test_a_request_is_found_by_its_id_in_every_process(
    redis_url: str, namespace: str, toy_model: Path, cache_dir: Path
) -> None:
    async with running(redis_url, namespace, toy_model, cache_dir) as stack:
        with capture_logs() as lines:
            body = {"prompt": PROMPT, "max_tokens": 3, "ignore_eos": True}
            headers = {"X-Request-Id": "mine-1"}
            async with stack.http.post(f"{stack.url}/v1/completions", json=body, headers=headers) as response:
                assert response.status == 200
                await response.read()
            async with stack.http.post(f"{stack.url}/v1/completions", json={}, headers=headers) as response:
                assert response.status == 400
        answered = [line for line in lines if line["event"] == "answered" and line["method"] == "POST"]
        assert [line["status"] for line in answered] == [200, 400]
        first = answered[0]
        assert (first["request_id"], first["route"], first["log_level"]) == ("mine-1", "/v1/completions", "info")
        assert (first["completion_tokens"], first["cached_tokens"]) == (3, 0)
        [id] = first["ids"]
        events = {line["event"] for line in lines if line.get("request") == id}
        assert {"queued", "admitted", "tracking"} <= events
        assert PROMPT not in str(lines)


KEPT: dict[str, tuple[str, dict[str, Any]]] = {
    "resumable": ("/v1/completions", {"prompt": PROMPT, "max_tokens": 3, "stream": True, "resumable": True}),
    "response": ("/v1/responses", {"input": PROMPT, "max_output_tokens": 3}),
    "streamed response": ("/v1/responses", {"input": PROMPT, "max_output_tokens": 3, "stream": True}),
    "response not kept": ("/v1/responses", {"input": PROMPT, "max_output_tokens": 3, "store": False}),
    "background": ("/v1/completions", {"prompt": PROMPT, "max_tokens": 3, "background": True}),
    "background response": ("/v1/responses", {"input": PROMPT, "max_output_tokens": 3, "background": True}),
}


async def test_tokens_are_told_of_every_kind_of_answer(
    redis_url: str, namespace: str, toy_model: Path, cache_dir: Path
) -> None:
    """Of one in the background in a line of its own, when it has ended."""
    async with running(redis_url, namespace, toy_model, cache_dir) as stack:
        for name, (path, body) in KEPT.items():
            with capture_logs() as lines:
                async with stack.http.post(f"{stack.url}{path}", json=body) as response:
                    assert response.status in (200, 202), await response.text()
                    await response.read()
                [answered] = [line for line in lines if line["event"] == "answered"]
                assert answered["prompt_tokens"] > 3
                if body.get("background"):
                    async with asyncio.timeout(20):
                        while not (ended := [e for e in lines if e["event"] == "answered in the background"]):
                            await asyncio.sleep(0.01)
                    assert ended[0]["ids"] == answered["ids"]
                    answered = ended[0]
            assert (name, answered["completion_tokens"]) == (name, 3)
            assert PROMPT not in str(lines)
