"""A front door that listens before it, or the model, is there."""

from __future__ import annotations

import asyncio
import threading

import aiohttp
import pytest

from shared.registry import Role, State
from tests.tokenizer_svc.conftest import StartDoor, until_ready
from tests.tokenizer_svc.downstream import Downstream
from tokenizer_svc import service


async def test_what_is_answered_while_the_tokenizer_is_loaded(
    start_door: StartDoor, downstream: Downstream, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, goes_on = service._load, threading.Event()

    def slowly(settings: service.Settings) -> service.Tokenizer:
        goes_on.wait()
        return load(settings)

    monkeypatch.setattr(service, "_load", slowly)
    starting = asyncio.create_task(start_door())
    try:
        async with aiohttp.ClientSession(url) as http:
            async with asyncio.timeout(10):
                while True:
                    try:
                        async with http.get("/health") as response:
                            body = await response.json()
                            break
                    except aiohttp.ClientConnectionError:
                        await asyncio.sleep(0.02)
            assert (response.status, body["status"]) == (503, "loading")
            assert body["progress"]["tokenizer"] == "loading the tokenizer"
            async with http.get("/v1/models") as response:
                assert [model["id"] for model in (await response.json())["data"]] == ["toy"]
            for path, status in (("/ping", 200), ("/version", 200), ("/ready", 503), ("/tokenizer_info", 503)):
                async with http.get(path) as response:
                    assert response.status == status, path
            asking = asyncio.create_task(http.post("/generate", json={"text": "hi"}))
            await asyncio.sleep(0.1)
            assert not asking.done()
            goes_on.set()
            assert (await asking).status == 200, "it waited for the tokenizer, and did not notice"
            await starting
            await until_ready(http)
            async with http.get("/health") as response:
                assert (response.status, (await response.json())["progress"]) == (200, {})
    finally:
        goes_on.set()


async def test_how_far_the_model_is(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    await until_ready(http)
    await downstream.set_state(Role.WORKER, "0", State.LOADING)
    async with asyncio.timeout(10):
        while True:
            async with http.get("/health") as response:
                body = await response.json()
            if response.status == 503:
                break
            await asyncio.sleep(0.05)
    assert (body["status"], body["progress"]) == ("loading", {"worker": "loading"})
    async with http.get("/v1/models") as response:
        assert response.status == 200
