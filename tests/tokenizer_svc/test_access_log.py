"""One line for each request, with what is needed to find it in other processes, and no word of it."""

from __future__ import annotations

from pathlib import Path

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
