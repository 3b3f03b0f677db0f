"""A request whose end got lost is noticed, and asked for."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from shared.protocol import Finish, Generate, Track
from tests.tokenizer_svc.conftest import StartDoor
from tests.tokenizer_svc.downstream import Downstream, endless
from tokenizer_svc.answers import Choice
from tokenizer_svc.quiet import Quiet


async def rest(downstream: Downstream, generate: Generate) -> None:
    await downstream.texts_from_start(generate, (0, [10, 11], "once more", Finish.LENGTH, None))


async def test_what_is_live_no_more_is_asked_for(
    start_door: StartDoor, downstream: Downstream, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenizer_svc.service._QUIET_S", 0.1)
    await start_door("t")
    downstream.script, downstream.again = endless, rest

    async def ask(http: aiohttp.ClientSession) -> str:
        async with http.post("/v1/completions", json={"prompt": "a"}) as response:
            return (await response.json())["choices"][0]["text"]

    async with aiohttp.ClientSession(url) as http:
        asking = asyncio.create_task(ask(http))
        await downstream.until(lambda: bool(downstream.generates))
        await asyncio.sleep(0.5)
        assert not [track for track in downstream.received(Track) if track.again], "it lives: it may take its time"
        [id] = downstream.generates
        await downstream.bus.transaction().remove(downstream.bus.names.live, [str(id)]).commit()
        assert await asking == "once more"


def test_only_what_got_no_further_is_quiet() -> None:
    choices = [Choice(id, 0, 0, 5) for id in (1, 2)]
    quiet = Quiet()
    assert quiet.look(choices) == []
    choices[0].completion_tokens += 1
    assert quiet.look(choices) == choices[1:]
    assert quiet.look([Choice(3, 0, 0, 5), *choices]) == choices
    assert quiet.look([]) == quiet.look(choices) == []
