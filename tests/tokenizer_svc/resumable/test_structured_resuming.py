"""Answers that obey a grammar, resumed and taken over: the grammar is where it is needed, in whatever front door."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import msgspec
import pytest

from shared.grammar import Compiled
from shared.protocol import Finish, Generate, ModelCard
from tests.tokenizer_svc.downstream import CARD, Downstream
from tests.tokenizer_svc.resumable.conftest import Doors, event_id, events, read_events

TEMPLATE: dict[str, Any] = {
    "segments": ["Say ", {"gen": "word", "regex": "[a-z]+"}, ", ", {"gen": "number", "regex": "[0-9]+"}, "!"],
    "stream": True,
    "resumable": True,
}
WORDS = ["gr", "oot", ", 4", "2", "!"]


@pytest.fixture
def card() -> ModelCard:
    return msgspec.structs.replace(CARD, structured=True)


class Template:
    """Says what the template asks for, the end when it may."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.grammars: list[Compiled] = []

    async def __call__(self, downstream: Downstream, generate: Generate) -> None:
        await downstream.admit(generate)
        self.grammars.append(await downstream.grammar(generate))
        for index, word in enumerate(WORDS):
            if index == 3:
                await self.may_end.wait()
            await downstream.texts(generate, (index, [10], word, Finish.NONE, None))
        await downstream.texts(generate, (len(WORDS), [2], "", Finish.STOP, 2))


@pytest.mark.parametrize("killed", [False, True])
async def test_values_of_a_template(
    doors: Doors, downstream: Downstream, web: aiohttp.ClientSession, killed: bool
) -> None:
    script = downstream.script = downstream.again = Template()
    first, second = await doors.start("t1"), await doors.start("t2")
    response = await web.post(f"{first}/generate", json=TEMPLATE)
    seen = events(await read_events(response, 3))
    if killed:
        await doors.kill("t1")
        [generate] = downstream.received(Generate)
        await downstream.bus.forget(downstream.bus.names.grammar(generate.sampling.grammar.key))  # lost with it
    answer_id, _, _ = event_id(seen[0]).partition(":")
    script.may_end.set()
    async with web.get(f"{second}/v1/streams/{answer_id}?last_event_id={answer_id}:1") as resumed:
        rest = events(await resumed.read())
    assert rest[:2] == seen[1:]
    assert len(script.grammars) == (2 if killed else 1)
    last = json.loads(rest[-2].split(b"data: ")[1])
    assert last["text"] == "groot, 42!"
    assert last["values"] == {"word": "groot", "number": "42"}
