"""Routes for operators."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shared.bus import Bus
from shared.errors import UserError
from shared.protocol import Abort, Flush
from shared.service import Context
from tests.tokenizer_svc.conftest import StartDoor, until_ready
from tests.tokenizer_svc.downstream import Downstream, endless, silent


async def test_health_and_ready(http: aiohttp.ClientSession) -> None:
    await until_ready(http)
    async with http.get("/health") as response:
        assert response.status == 200
        body = await response.json()
    assert body["status"] == "ok"
    assert {role: [p["state"] for p in found] for role, found in body["processes"].items()} == {
        "tokenizer": ["ready"],
        "scheduler": ["ready"],
        "worker": ["ready"],
        "detokenizer": ["ready"],
    }
    async with http.get("/ready") as response:
        assert (response.status, await response.json()) == (200, {"ready": True, "missing": [], "paused": None})


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/flush_cache"), ("POST", "/flush_cache"), ("POST", "/reset_prefix_cache")]
)
async def test_flush_cache(http: aiohttp.ClientSession, downstream: Downstream, method: str, path: str) -> None:
    async with http.request(method, path) as response:
        assert await response.json() == {"success": True, "pages": 7}
    await downstream.until(lambda: len(downstream.received(Flush)) == 1)


@pytest.mark.parametrize("prefix", ["chatcmpl-", "cmpl-", "gen-", ""])
async def test_abort_of_any_id(http: aiohttp.ClientSession, downstream: Downstream, prefix: str) -> None:
    async with http.post("/abort_request", json={"request_id": f"{prefix}40000000000000ff"}) as response:
        assert response.status == 200
    expected = [Abort(0x40000000000000FF, notify=True, message="the request was aborted")]
    await downstream.until(lambda: downstream.received(Abort) == expected)


@pytest.mark.parametrize("body", [{}, {"rid": 5}, {"rid": ""}, {"request_id": ""}, {"rid": "a", "request_id": "a"}])
async def test_abort_of_what_is_no_id(
    http: aiohttp.ClientSession, downstream: Downstream, body: dict[str, object]
) -> None:
    async with http.post("/abort_request", json=body) as response:
        assert response.status == 400
        assert (await response.json())["error"]["param"] == next(iter(body), "rid")
    assert not downstream.received(Abort)


async def test_abort_of_a_stream(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    downstream.script = endless
    async with http.post("/generate", json={"text": ["a", "b"], "stream": True}) as response:
        await downstream.until(lambda: len(downstream.generates) == 2)
        first, second = downstream.generates
        async with http.post("/abort_request", json={"rid": f"gen-{first:016x}"}) as aborted:
            assert aborted.status == 200
        while b'"type":"abort"' not in await response.content.readuntil(b"\n\n"):
            pass
        assert downstream.aborted == {first}, "answers of the native API have ids of their own"
        async with http.post("/abort_request", json={"rid": f"gen-{second:016x}"}) as aborted:
            assert aborted.status == 200
        assert (await response.read()).endswith(b"data: [DONE]\n\n")


async def test_abort_of_a_waiting_request(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    downstream.script = silent
    body = {"messages": [{"role": "user", "content": "hi"}]}
    asking = asyncio.create_task(http.post("/v1/chat/completions", json=body))
    await downstream.until(lambda: len(downstream.generates) == 1)
    [id] = downstream.generates
    async with http.post("/abort_request", json={"rid": f"chatcmpl-{id:016x}"}) as aborted:
        assert aborted.status == 200
    answer = await (await asking).json()
    assert answer["choices"][0]["finish_reason"] == "abort"
    assert answer["choices"][0]["message"]["content"] == ""


async def test_metrics_are_those_of_all_processes(http: aiohttp.ClientSession) -> None:
    async with http.post("/v1/completions", json={"prompt": "a"}) as response:
        assert response.status == 200
    async with http.post("/v1/completions", json={}) as response:
        assert response.status == 400
    async with http.get("/metrics") as response:
        assert response.content_type == "text/plain"
        text = await response.text()
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    process = ("process", "tokenizer:t")
    route = ("route", "/v1/completions")
    assert samples["rootstream_http_requests_total", process, route, ("status", "200")] == 1
    assert samples["rootstream_http_requests_total", process, route, ("status", "400")] == 1
    assert samples["rootstream_http_generated_tokens_total", process] == 3
    assert samples["rootstream_http_prompt_tokens_total", process] == 1
    assert samples["rootstream_http_ttft_seconds_count", process] == 1
    assert samples["rootstream_http_inter_token_seconds_count", process] == 2
    assert samples["rootstream_http_finished_total", process, ("reason", "stop")] == 1
    assert samples["rootstream_http_sequences", process] == 0


async def test_server_info(http: aiohttp.ClientSession) -> None:
    async with http.get("/server_info") as response:
        body = await response.json()
    assert body["model"] == "toy"
    assert body["model_card"]["kv_tokens"] == 1600
    assert body["limits"]["max_n"] == 64
    assert "/v1/chat/completions" in body["routes"]
    assert "redis" not in str(body), "no address of anything inside"


async def test_model_name_is_the_models_own_by_default(start_door: StartDoor, url: str) -> None:
    await start_door(served_model_name=())
    async with aiohttp.ClientSession(url) as http, http.get("/v1/models") as response:
        [model] = (await response.json())["data"]
    assert (model["id"], model["max_model_len"]) == ("toy-llama", 200)


async def test_a_taken_port_is_a_clear_error(start_door: StartDoor, port: int) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(UserError, match=rf"cannot listen on 127\.0\.0\.1 port {port}.*--port"):
            await start_door()


async def test_texts_stream_is_trimmed_and_deleted(
    start_door: StartDoor, downstream: Downstream, bus: Bus, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenizer_svc.service._TRIM_S", 0.0)
    door: Context = await start_door()
    names = bus.names.texts("t")
    async with aiohttp.ClientSession(url) as http:
        for _ in range(150):
            async with http.post("/v1/completions", json={"prompt": "a"}) as response:
                assert response.status == 200
    assert await bus.client.xlen(names) < 400  # of 450 entries: whole nodes of the stream go
    door.stopping.set()
    async with asyncio.timeout(10):
        while await bus.client.exists(names):
            await asyncio.sleep(0.01)
