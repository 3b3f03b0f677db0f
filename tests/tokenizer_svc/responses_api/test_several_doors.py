"""Responses with several front doors: begun at one, read and cancelled at another, outliving both."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import openai

from shared.protocol import Generate
from tests.tokenizer_svc.downstream import Downstream, endless
from tests.tokenizer_svc.resumable.conftest import WORDS, Doors, Story

RESPONSES = "/v1/responses"


def client_of(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


async def ended(client: openai.AsyncOpenAI, id: str) -> Any:
    """The response when it has ended."""
    async with asyncio.timeout(20):
        while (response := await client.responses.retrieve(id)).status in ("queued", "in_progress"):
            await asyncio.sleep(0.02)
    return response


async def test_the_door_that_writes_a_response_in_the_background_dies(doors: Doors, downstream: Downstream) -> None:
    story = downstream.script = downstream.again = Story(3)
    first, second = await doors.start("t1"), await doors.start("t2")
    async with client_of(first) as here, client_of(second) as there:
        begun = await here.responses.create(model="toy", input="hi", background=True)
        while (await there.responses.retrieve(begun.id)).output_text != "".join(WORDS[:3]):
            await asyncio.sleep(0.02)
        stream = await there.responses.retrieve(begun.id, stream=True)
        reading = asyncio.create_task(_text(stream))
        await doors.kill("t1")
        story.go_on()
        response = await ended(there, begun.id)
        assert (response.status, response.output_text) == ("completed", "".join(WORDS))
        assert await reading == "".join(WORDS)


async def _text(stream: Any) -> str:
    return "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])


async def test_cancelled_at_another_door(doors: Doors, downstream: Downstream) -> None:
    downstream.script = endless
    first, second = await doors.start("t1"), await doors.start("t2")
    async with client_of(first) as here, client_of(second) as there:
        begun = await here.responses.create(model="toy", input="hi", background=True)
        await downstream.until(lambda: bool(downstream.generates))
        cancelled = await there.responses.cancel(begun.id)
        assert cancelled.status == "cancelled"
        [id] = downstream.generates
        await downstream.until(lambda: downstream.aborted == {id})
        assert (await here.responses.retrieve(begun.id)).status == "cancelled"


async def test_continued_at_another_door(doors: Doors, downstream: Downstream) -> None:
    downstream.script = Story()
    first, second = await doors.start("t1"), await doors.start("t2")
    async with client_of(first) as here, client_of(second) as there:
        begun = await here.responses.create(model="toy", input="hi")
        again = await there.responses.create(model="toy", input="and then?", previous_response_id=begun.id)
        items = await here.responses.input_items.list(again.id)
        assert len(items.data) == 3


async def test_the_client_s_door_dies(doors: Doors, downstream: Downstream, web: aiohttp.ClientSession) -> None:
    """Nobody waits for a response that is not in the background: it is not gone on with for long."""
    downstream.script = downstream.again = Story(3)
    first, second = await doors.start("t1"), await doors.start("t2")
    asking = asyncio.create_task(web.post(first + RESPONSES, json={"input": "hi", "stream": True}))
    response = await asking
    await response.content.readany()
    await doors.kill("t1")
    [generate] = downstream.received(Generate)[:1]
    async with client_of(second) as there:
        assert (await ended(there, f"resp_{generate.id:016x}")).status == "cancelled"
    response.close()
