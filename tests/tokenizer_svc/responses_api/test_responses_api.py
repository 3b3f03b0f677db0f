"""The Responses API over real HTTP: what OpenAI's own client asks for and reads, and the events as bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, cast

import aiohttp
import openai
import pydantic
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses.response_item_list import ResponseItemList

from shared.protocol import Abort, Failure, Finish, Generate, ModelCard
from shared.tokenizer import Tokenizer
from tests.tokenizer_svc.conftest import StartDoor
from tests.tokenizer_svc.downstream import ROOMY, Downstream, Script, admitted_only, endless
from tests.tokenizer_svc.speaking import in_pieces, last_prompt, saying

RESPONSES = "/v1/responses"
WEATHER: Any = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: Any = [{"type": "function", "name": "get_weather", "description": "Looks outside.", "parameters": WEATHER}]
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln"}}\n</tool_call>'
SKY: Any = {"type": "object", "properties": {"sky": {"type": "string"}}, "required": ["sky"]}
EVENT: pydantic.TypeAdapter[ResponseStreamEvent] = pydantic.TypeAdapter(ResponseStreamEvent)


@pytest.fixture
def card() -> ModelCard:
    return ROOMY


async def events_of(http: aiohttp.ClientSession, body: dict[str, Any], path: str = RESPONSES) -> list[dict[str, Any]]:
    """The events of a new response."""
    async with http.post(path, json={"stream": True, **body}) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        return read_events(await response.text())


def read_events(text: str) -> list[dict[str, Any]]:
    """Each event is what OpenAI's package takes it for, numbered, and its type is in a line of its own."""
    chunks = text.split("\n\n")
    assert chunks.pop() == ""
    found: list[dict[str, Any]] = []
    for chunk in chunks:
        lines = [line for line in chunk.split("\n") if not line.startswith("id: ")]
        event = json.loads(lines[1].removeprefix("data: "))
        assert lines == [f"event: {event['type']}", lines[1]]
        validated = EVENT.validate_python(event)
        assert validated.type == event["type"]
        found.append(event)
    numbers = [event["sequence_number"] for event in found]
    assert numbers == list(range(numbers[0], numbers[0] + len(found)))
    return found


async def test_a_response(client: openai.AsyncOpenAI, downstream: Downstream, toy_tokenizer: Tokenizer) -> None:
    response = await client.responses.create(
        model="toy",
        input="hi",
        instructions="Be kind.",
        max_output_tokens=50,
        temperature=0.5,
        top_p=0.9,
        metadata={"topic": "weather"},
        user="u1",
    )
    [generate] = downstream.generates.values()
    Response.model_validate(response.to_dict())
    assert response.id == f"resp_{generate.id:016x}"
    assert response.output_text == "Hello wörld"
    [message] = response.output
    assert message.type == "message"
    assert (message.role, message.status) == ("assistant", "completed")
    assert (response.status, response.object, response.model) == ("completed", "response", "toy")
    assert (response.error, response.incomplete_details, response.metadata) == (None, None, {"topic": "weather"})
    prompt = len(generate.input_ids) // 4
    assert response.usage is not None
    assert response.usage.to_dict() == {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + 3,
    }
    sampling = generate.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (50, 0.5, 0.9)
    assert last_prompt(downstream, toy_tokenizer) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )


async def test_the_events_of_a_stream(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    events = await events_of(http, {"input": "hi"})
    [generate] = downstream.generates.values()
    place = {"item_id": f"msg_{generate.id:016x}0000", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    item = {"type": "message", "id": place["item_id"], "status": "in_progress", "role": "assistant", "content": []}
    done = {**item, "status": "completed", "content": [{**part, "text": "Hello wörld"}]}
    kinds = [event["type"].removeprefix("response.") for event in events]
    assert kinds[:2] == ["created", "in_progress"]
    assert [event["response"]["status"] for event in events[:2]] == ["in_progress"] * 2
    assert [event["response"]["output"] for event in events[:2]] == [[]] * 2
    assert [{k: v for k, v in event.items() if k != "sequence_number"} for event in events[2:-1]] == [
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **place, "part": part},
        {"type": "response.output_text.delta", **place, "delta": "Hello", "logprobs": []},
        {"type": "response.output_text.delta", **place, "delta": " wörld", "logprobs": []},
        {"type": "response.output_text.done", **place, "text": "Hello wörld", "logprobs": []},
        {"type": "response.content_part.done", **place, "part": {**part, "text": "Hello wörld"}},
        {"type": "response.output_item.done", "output_index": 0, "item": done},
    ]
    assert kinds[-1] == "completed"
    assert events[-1]["response"]["output"] == [done]
    assert events[-1]["response"]["usage"]["output_tokens"] == 3


SAID: dict[str, tuple[Sequence[str], dict[str, Any]]] = {
    "text": (["Once", " upon"], {}),
    "nothing": ([], {}),
    "not stored": (["Once", " upon"], {"store": False}),
    "a call": (in_pieces(CALL), {"tools": TOOLS}),
    "words and calls": (in_pieces(f"Let me see. {CALL}\n{CALL}"), {"tools": TOOLS}),
    "a call that is cut": (in_pieces(CALL[:-30], 3), {"tools": TOOLS}),
    "tools, but no call": (["It rains <tool", "_ca", "n>"], {"tools": TOOLS}),
}


def without_ids(response: dict[str, Any]) -> dict[str, Any]:
    """What does not differ from one response to the next."""
    output = [{k: v for k, v in item.items() if k not in ("id", "call_id")} for item in response["output"]]
    return {**response, "id": "", "created_at": 0, "completed_at": 0, "output": output}


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("finish", [Finish.STOP, Finish.LENGTH])
async def test_a_stream_folded_is_the_whole(
    http: aiohttp.ClientSession, downstream: Downstream, said: str, finish: Finish
) -> None:
    texts, fields = SAID[said]
    downstream.script = saying(*texts, finish=finish)
    async with http.post(RESPONSES, json={"input": "hi", **fields}) as response:
        assert response.status == 200, await response.text()
        whole = await response.json()
    Response.model_validate(whole)
    events = await events_of(http, {"input": "hi", **fields})
    folded: dict[int, dict[str, Any]] = {}
    for event in events:
        match event["type"]:
            case "response.output_item.added":
                folded[event["output_index"]] = {**event["item"], "content": []}
            case "response.content_part.added":
                folded[event["output_index"]]["content"].append(event["part"])
            case "response.output_text.delta":
                folded[event["output_index"]]["content"][event["content_index"]]["text"] += event["delta"]
            case "response.function_call_arguments.delta":
                folded[event["output_index"]]["arguments"] += event["delta"]
            case "response.output_item.done":
                item = folded[event["output_index"]]
                if item["type"] == "function_call":
                    del item["content"]
                assert {**item, "status": ""} == {**event["item"], "status": ""}
            case _:
                pass
    last = events[-1]
    assert last["type"] == f"response.{whole['status']}"
    assert without_ids(last["response"]) == without_ids(whole)
    assert [item["id"] for item in folded.values()] == [item["id"] for item in last["response"]["output"]]


async def test_a_call_and_its_output(
    client: openai.AsyncOpenAI, downstream: Downstream, toy_tokenizer: Tokenizer
) -> None:
    downstream.script = saying(*in_pieces(f"Let me see. {CALL}"))
    first = await client.responses.create(model="toy", input="hi", tools=TOOLS)
    message, call = first.output
    assert message.type == "message"
    assert call.type == "function_call"
    assert (call.name, json.loads(call.arguments), call.status) == ("get_weather", {"city": "Köln"}, "completed")
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    chained = {"previous_response_id": first.id, "input": [result]}
    stateless = {"input": [{"role": "user", "content": "hi"}, *(each.to_dict() for each in first.output), result]}
    prompts: list[str] = []
    for body in (chained, stateless):
        await client.responses.create(model="toy", tools=TOOLS, **cast("Any", body))
        prompts.append(last_prompt(downstream, toy_tokenizer))
    assert prompts[0] == prompts[1]
    assert 'Let me see. \n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln"}}' in prompts[0]
    assert "<tool_response>\nrain\n</tool_response>" in prompts[0]


async def test_a_conversation_goes_on(
    client: openai.AsyncOpenAI, downstream: Downstream, toy_tokenizer: Tokenizer
) -> None:
    first = await client.responses.create(model="toy", input="one", instructions="Be kind.")
    second = await client.responses.create(model="toy", input="two", previous_response_id=first.id)
    await client.responses.delete(first.id)
    third = await client.responses.create(
        model="toy",
        previous_response_id=second.id,
        input=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "three"}],
    )
    said = "<|im_start|>assistant\nHello wörld<|im_end|>\n"
    assert last_prompt(downstream, toy_tokenizer) == (
        f"<|im_start|>user\none<|im_end|>\n{said}<|im_start|>user\ntwo<|im_end|>\n{said}"
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nthree<|im_end|>\n<|im_start|>assistant\n"
    )
    items = await client.responses.input_items.list(third.id, order="asc", limit=3)
    ResponseItemList.model_validate(items.to_dict())
    texts = [item.content[0].text async for item in items if item.type == "message"]  # type: ignore[union-attr]
    assert texts == ["one", "Hello wörld", "two", "Hello wörld", "Be brief.", "three"]
    newest = await client.responses.input_items.list(third.id, limit=1)
    assert [item.id for item in newest.data] == [newest.first_id] == [newest.last_id]
    assert newest.has_more
    assert (await client.responses.retrieve(third.id)).previous_response_id == second.id
    reference: Any = [{"type": "item_reference", "id": second.output[0].id}, {"role": "user", "content": "x"}]
    await client.responses.create(model="toy", input=reference)
    assert last_prompt(downstream, toy_tokenizer).startswith(said)


async def test_what_is_kept_can_be_fetched_until_it_is_deleted(
    client: openai.AsyncOpenAI, http: aiohttp.ClientSession
) -> None:
    response = await client.responses.create(model="toy", input="hi", metadata={"a": "b"})
    fetched = await client.responses.retrieve(response.id)
    assert fetched.to_dict() == response.to_dict()
    assert len([event async for event in await client.responses.retrieve(response.id, stream=True)]) == 10
    async with http.delete(f"{RESPONSES}/{response.id}") as deleted:
        assert await deleted.json() == {"id": response.id, "object": "response", "deleted": True}
    for gone in (response.id, "resp_0000000000000000", "chatcmpl-0000000000000000", "nonsense"):
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(gone)
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model="toy", input="hi", previous_response_id=response.id)
    assert (caught.value.code, caught.value.param) == ("previous_response_not_found", "previous_response_id")
    unkept = await client.responses.create(model="toy", input="hi", store=False)
    assert unkept.store is False
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(unkept.id)


async def test_in_the_background(client: openai.AsyncOpenAI, downstream: Downstream) -> None:
    goes_on = asyncio.Event()

    async def slow(downstream: Downstream, generate: Generate) -> None:
        await downstream.admit(generate)
        await downstream.texts(generate, (0, [10], "once", Finish.NONE, None))
        await goes_on.wait()
        await downstream.texts(generate, (1, [11, 2], " upon", Finish.STOP, 2))

    downstream.script = slow
    response = await client.responses.create(model="toy", input="hi", background=True)
    assert response.status in ("queued", "in_progress")
    assert response.background
    while (response := await client.responses.retrieve(response.id)).output_text != "once":
        assert response.status in ("queued", "in_progress")
        await asyncio.sleep(0.01)
    assert response.usage is None
    goes_on.set()
    while (response := await client.responses.retrieve(response.id)).status == "in_progress":
        await asyncio.sleep(0.01)
    assert (response.status, response.output_text) == ("completed", "once upon")
    cancelled = await client.responses.cancel(response.id)
    assert cancelled.to_dict() == response.to_dict()


async def test_a_stream_in_the_background_goes_on_from_any_event(
    client: openai.AsyncOpenAI, downstream: Downstream
) -> None:
    downstream.script = saying("a", "b", "c")
    stream = await client.responses.create(model="toy", input="hi", background=True, stream=True)
    events = [event async for event in stream]
    assert events[-1].type == "response.completed"
    id = events[-1].response.id
    for after in range(len(events) - 1):
        rest = await client.responses.retrieve(id, stream=True, starting_after=after)
        assert [event.to_dict() async for event in rest] == [event.to_dict() for event in events[after + 1 :]]


async def test_a_stream_in_the_background_says_that_it_is_queued(
    client: openai.AsyncOpenAI, http: aiohttp.ClientSession, downstream: Downstream
) -> None:
    """At once, before anybody took the request; then as ever, and the same when it is read again."""
    goes_on = asyncio.Event()

    async def late(downstream: Downstream, generate: Generate) -> None:
        await goes_on.wait()
        await saying("some")(downstream, generate)

    downstream.script = late
    stream = await client.responses.create(model="toy", input="hi", background=True, stream=True)
    first = [await anext(stream) for _ in range(2)]
    assert [event.type for event in first] == ["response.created", "response.queued"]
    response = first[1].to_dict()["response"]
    assert isinstance(response, dict)
    assert response["status"] == "queued"
    assert (await client.responses.retrieve(response["id"])).status == "queued"
    goes_on.set()
    rest = [event.type async for event in stream]
    assert (rest[0], rest[-1]) == ("response.in_progress", "response.completed")
    async with http.get(f"{RESPONSES}/{response['id']}", params={"stream": "true"}) as again:
        assert [event["type"] for event in read_events(await again.text())] == [event.type for event in first] + rest


async def test_a_stream_in_the_background_that_is_refused_fails(
    http: aiohttp.ClientSession, downstream: Downstream
) -> None:
    async def refusing(downstream: Downstream, generate: Generate) -> None:
        await downstream.fail(generate, Failure.QUEUE_FULL)

    downstream.script = refusing
    events = await events_of(http, {"input": "hi", "background": True})
    assert [event["type"] for event in events] == ["response.created", "response.queued", "error", "response.failed"]


@pytest.mark.parametrize("script", [endless, admitted_only])
async def test_what_is_cancelled_frees_its_row(
    client: openai.AsyncOpenAI, downstream: Downstream, script: Script
) -> None:
    downstream.script = script
    response = await client.responses.create(model="toy", input="hi", background=True)
    await downstream.until(lambda: bool(downstream.generates))
    cancelled = await client.responses.cancel(response.id)
    assert cancelled.status == "cancelled"
    await downstream.until(lambda: bool(downstream.received(Abort)))
    assert (await client.responses.retrieve(response.id)).status == "cancelled"
    sync = asyncio.create_task(client.responses.create(model="toy", input="hi"))
    await downstream.until(lambda: len(downstream.generates) == 2)
    id = f"resp_{list(downstream.generates)[-1]:016x}"
    with pytest.raises(openai.BadRequestError):
        await client.responses.cancel(id)
    sync.cancel()


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("script", [endless, admitted_only])
async def test_a_client_that_leaves_frees_its_row(
    http: aiohttp.ClientSession, downstream: Downstream, script: Script, stored: bool
) -> None:
    downstream.script = script
    body = {"input": "hi", "stream": script is endless, "store": stored}
    asking = asyncio.create_task(http.post(RESPONSES, json=body))
    await downstream.until(lambda: bool(downstream.generates))
    await asyncio.sleep(0.1)
    if asking.done():
        asking.result().close()
    asking.cancel()
    async with asyncio.timeout(1):
        await downstream.until(lambda: bool(downstream.received(Abort)))


async def test_incomplete_and_failed(client: openai.AsyncOpenAI, downstream: Downstream) -> None:
    downstream.script = saying("some", finish=Finish.LENGTH)
    response = await client.responses.create(model="toy", input="hi", max_output_tokens=9999)
    assert response.incomplete_details is not None
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    [message] = response.output
    assert message.type == "message"
    assert message.status == "incomplete"

    async def breaking(downstream: Downstream, generate: Generate) -> None:
        await endless(downstream, generate)
        await downstream.fail(generate, Failure.WORKER, "the worker died")

    downstream.script = breaking
    with pytest.raises(openai.InternalServerError):
        await client.responses.create(model="toy", input="hi")
    stream = await client.responses.create(model="toy", input="hi", stream=True)
    *_, error, failed = [event async for event in stream]
    assert error.type == "error"
    assert "the worker died" in error.message
    assert failed.type == "response.failed"
    for response in (failed.response, await client.responses.retrieve(failed.response.id)):
        assert response.error is not None
        assert (response.status, response.error.code) == ("failed", "server_error")
        assert response.output_text == "once"
    with pytest.raises(openai.BadRequestError):
        await client.responses.create(model="toy", input="hi", previous_response_id=failed.response.id)


class City(pydantic.BaseModel):
    """What the answer must look like."""

    city: str


async def test_what_the_answer_must_look_like(client: openai.AsyncOpenAI, downstream: Downstream) -> None:
    downstream.script = saying('{"city":', '"Köln"}')
    parsed = await client.responses.parse(model="toy", input="hi", text_format=City)
    assert parsed.output_parsed == City(city="Köln")
    [generate] = downstream.generates.values()
    assert generate.sampling.grammar is not None
    async with client.responses.stream(model="toy", input="hi", text_format=City) as stream:
        assert (await stream.get_final_response()).output_parsed == City(city="Köln")


async def test_tokens_are_counted_as_they_are_used(client: openai.AsyncOpenAI, downstream: Downstream) -> None:
    asked: dict[str, Any] = {"input": "hi", "instructions": "Be kind.", "tools": TOOLS, "text": {"verbosity": "low"}}
    counted = await client.responses.input_tokens.count(model="toy", **asked)
    assert not downstream.generates
    first = await client.responses.create(model="toy", **asked)
    assert first.usage is not None
    assert counted.to_dict() == {"object": "response.input_tokens", "input_tokens": first.usage.input_tokens}
    asked = {"input": [{"role": "user", "content": "and?"}], "previous_response_id": first.id}
    second = await client.responses.create(model="toy", **asked)
    assert second.usage is not None
    assert (await client.responses.input_tokens.count(**asked)).input_tokens == second.usage.input_tokens
    assert (await client.responses.input_tokens.count(previous_response_id=first.id)).input_tokens > 20
    assert (await client.responses.input_tokens.count(input="long " * 9000)).input_tokens > 4000


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": "hi", "previous_response_id": "resp_0000000000000000"}, "previous_response_id"),
        ({"input": "hi", "model": "other"}, "model"),
        ({"input": "hi", "personality": "friendly"}, "personality"),
        ({"input": "hi", "tools": [{"type": "web_search"}]}, "tools[0].type"),
    ],
)
async def test_what_cannot_be_counted(http: aiohttp.ClientSession, body: dict[str, Any], param: str) -> None:
    async with http.post(f"{RESPONSES}/input_tokens", json=body) as response:
        assert response.status in (400, 404)
        assert (await response.json())["error"]["param"] == param


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_form_beside_tools(client: openai.AsyncOpenAI, downstream: Downstream, streamed: bool) -> None:
    """A call, or text of the form whatever stands in it."""
    format: Any = {"format": {"type": "json_schema", "name": "sky", "schema": SKY}}
    asked: Any = {"model": "toy", "input": "hi", "tools": TOOLS, "text": format}
    told = json.dumps({"sky": CALL}, ensure_ascii=False)
    for said in (CALL, told):
        downstream.script = saying(*in_pieces(said))
        if streamed:
            async with client.responses.stream(**asked) as stream:
                response: Response = await stream.get_final_response()
        else:
            response = await client.responses.create(**asked)
        [item] = response.output
        if said == CALL:
            assert item.type == "function_call"
            assert (item.name, item.arguments) == ("get_weather", '{"city": "Köln"}')
        else:
            assert item.type == "message"
            assert response.output_text == told


async def test_the_beginning_is_left_out_where_all_of_it_is_too_long(
    client: openai.AsyncOpenAI, downstream: Downstream, toy_tokenizer: Tokenizer
) -> None:
    turns: Any = [{"role": "user", "content": f"turn {number} " + "x" * 300} for number in range(20)]
    turns.insert(0, {"role": "system", "content": "Be kind."})
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model="toy", input=turns)
    assert caught.value.code == "context_length_exceeded"
    response = await client.responses.create(model="toy", input=turns, truncation="auto")
    assert response.truncation == "auto"
    prompt = last_prompt(downstream, toy_tokenizer)
    assert prompt.startswith("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nturn ")
    assert "turn 0 " not in prompt
    assert "turn 19 " in prompt
    [generate] = downstream.generates.values()
    assert 3600 < len(generate.input_ids) // 4 < 4000


IMAGE: Any = {"type": "input_image", "image_url": "data:"}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"input": None}, "input"),
    ({"input": []}, "input"),
    ({"input": [5]}, "input[0]"),
    ({"input": [{"role": "user", "content": [IMAGE]}]}, "input[0].content[0].type"),
    ({"input": [{"type": "web_search_call"}]}, "input[0].type"),
    ({"input": [{"role": "bot", "content": "x"}]}, "input[0].role"),
    ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
    ({"input": [{"type": "item_reference", "id": "msg_x"}]}, "input[0].id"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name"),
    ({"tools": TOOLS, "tool_choice": {"type": "function", "name": "b"}}, "tool_choice.name"),
    ({"tools": TOOLS, "tool_choice": {"type": "file_search"}}, "tool_choice.type"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"temperature": 3}, "temperature"),
    ({"truncation": "middle"}, "truncation"),
    ({"include": ["everything"]}, "include[0]"),
    ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
    ({"text": {"format": {"type": "json_schema", "schema": {"type": "no"}}}}, "text.format.schema"),
    ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
    ({"text": {"verbosity": "loud"}}, "text.verbosity"),
    ({"reasoning": {"summary": "long"}}, "reasoning.summary"),
    ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
    ({"store": False, "background": True}, "background"),
    ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
    ({"metadata": {"a": "b" * 513}}, "metadata"),
    ({"conversation": "c"}, "conversation"),
    ({"prompt": {"id": "p"}}, "prompt"),
    ({"service_tier": "flex"}, "service_tier"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ({"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
]


@pytest.mark.parametrize(("change", "param"), REFUSED)
async def test_what_is_refused_by_name(http: aiohttp.ClientSession, change: dict[str, Any], param: str) -> None:
    body = {"input": "hi"} | change
    async with http.post(RESPONSES, json={k: v for k, v in body.items() if v is not None}) as response:
        answer = await response.json()
        assert response.status in (400, 404), answer
    assert answer["error"]["param"] == param
    assert param in answer["error"]["message"]


async def test_tenants_are_apart(start_door: StartDoor, downstream: Downstream, url: str) -> None:
    await start_door(api_keys="alice:alices-key-0123,bob:bobs-key-01234")
    async with (
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="alices-key-0123") as alice,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="bobs-key-01234", max_retries=0) as bob,
    ):
        response = await alice.responses.create(model="toy", input="hi")
        assert (await alice.responses.retrieve(response.id)).id == response.id
        for attempt in (
            bob.responses.retrieve,
            bob.responses.cancel,
            bob.responses.delete,
            bob.responses.input_items.list,
        ):
            with pytest.raises(openai.NotFoundError):
                await attempt(response.id)
        with pytest.raises(openai.BadRequestError):
            await bob.responses.create(model="toy", input="hi", previous_response_id=response.id)
        item: Any = [{"type": "item_reference", "id": response.output[0].id}]
        with pytest.raises(openai.NotFoundError):
            await bob.responses.create(model="toy", input=item)


async def test_a_server_that_keeps_nothing(start_door: StartDoor, downstream: Downstream, url: str) -> None:
    await start_door(response_keep=0)
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=5) as client:
        response = await client.responses.create(model="toy", input="hi")
        assert (response.store, response.output_text) == (False, "Hello wörld")
        for asked in ({"store": True}, {"background": True}, {"previous_response_id": response.id}):
            with pytest.raises(openai.BadRequestError):
                await client.responses.create(model="toy", input="hi", **cast("Any", asked))
    assert await downstream.bus.ask(("KEYS", f"{downstream.bus.names.prefix}:answer:*")) == [[]]


async def test_many_at_once(client: openai.AsyncOpenAI) -> None:
    async def one(number: int) -> str:
        async with client.responses.stream(model="toy", input=str(number)) as stream:
            return (await stream.get_final_response()).output_text

    assert await asyncio.gather(*map(one, range(20))) == ["Hello wörld"] * 20
