"""Anthropic's API over real HTTP: what its own client asks for and reads, and the events as bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import anthropic
import pytest
import pytest_asyncio
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from shared.protocol import Abort, Failure, Finish, Generate, ModelCard
from shared.service import Context
from shared.tokenizer import Tokenizer
from tests.tokenizer_svc.conftest import StartDoor
from tests.tokenizer_svc.downstream import ROOMY, Downstream, Script, admitted_only, endless
from tests.tokenizer_svc.speaking import in_pieces, last_prompt, saying

MESSAGES = "/v1/messages"
HI: Any = [{"role": "user", "content": "hi"}]
WEATHER: Any = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: Any = [{"name": "get_weather", "description": "Looks outside.", "input_schema": WEATHER}]
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln"}}\n</tool_call>'
SKY: Any = {"type": "object", "properties": {"sky": {"type": "string"}}, "required": ["sky"]}
EVENT: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)


@pytest.fixture
def card() -> ModelCard:
    return ROOMY


@pytest_asyncio.fixture
async def claude(door: Context, url: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """Anthropic's own client on one running front door."""
    async with anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0) as client:
        yield client


async def events_of(http: aiohttp.ClientSession, **body: Any) -> list[dict[str, Any]]:
    """The events of a stream: each is what Anthropic's package takes it for, and its type is in a line of its own."""
    async with http.post(MESSAGES, json={"model": "toy", "max_tokens": 50, "stream": True, **body}) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        chunks = (await response.text()).split("\n\n")
    assert chunks.pop() == ""
    found: list[dict[str, Any]] = []
    for chunk in chunks:
        first, second = chunk.split("\n")
        event = json.loads(second.removeprefix("data: "))
        assert first == f"event: {event['type']}"
        if event["type"] != "ping":
            assert EVENT.validate_python(event).type == event["type"]
        found.append(event)
    return found


async def test_a_message(claude: anthropic.AsyncAnthropic, downstream: Downstream, toy_tokenizer: Tokenizer) -> None:
    message = await claude.messages.create(
        model="toy",
        max_tokens=50,
        system="Be kind.",
        messages=HI,
        extra_body={"temperature": 0.5, "top_p": 0.9, "top_k": 7},
        stop_sequences=["END"],
        metadata={"user_id": "u1"},
    )
    [generate] = downstream.generates.values()
    assert message.id == f"msg_{generate.id:016x}"
    assert (message.type, message.role, message.model) == ("message", "assistant", "toy")
    assert [(block.type, block.text) for block in message.content if block.type == "text"] == [("text", "Hello wörld")]
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    prompt = len(generate.input_ids) // 4
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (prompt - 2, 2, 3)
    assert usage.cache_creation_input_tokens == 0
    assert message._request_id
    sampling = generate.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.top_k) == (50, 0.5, 0.9, 7)
    assert last_prompt(downstream, toy_tokenizer) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )


async def test_the_events_of_a_stream(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    events = await events_of(http, messages=HI)
    [generate] = downstream.generates.values()
    prompt = len(generate.input_ids) // 4
    usage = {"input_tokens": prompt - 2, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 0}
    assert events == [
        {
            "type": "message_start",
            "message": {
                "type": "message",
                "id": f"msg_{generate.id:016x}",
                "role": "assistant",
                "model": "toy",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {**usage, "output_tokens": 0},
            },
        },
        {"type": "ping"},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "", "citations": None}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " wörld"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {**usage, "output_tokens": 3},
        },
        {"type": "message_stop"},
    ]


SAID: dict[str, tuple[Sequence[str], dict[str, Any]]] = {
    "text": (["Once", " upon"], {}),
    "nothing": ([], {}),
    "a call": (in_pieces(CALL), {"tools": TOOLS}),
    "words and calls": (in_pieces(f"Let me see. {CALL}\n{CALL}"), {"tools": TOOLS}),
    "a call that is cut": (in_pieces(CALL[:-30], 3), {"tools": TOOLS}),
    "tools, but no call": (["It rains <tool", "_ca", "n>"], {"tools": TOOLS}),
}


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("finish", [Finish.STOP, Finish.LENGTH])
async def test_a_stream_folded_is_the_whole(
    claude: anthropic.AsyncAnthropic, downstream: Downstream, said: str, finish: Finish
) -> None:
    texts, fields = SAID[said]
    downstream.script = saying(*texts, finish=finish)
    asked: dict[str, Any] = {"model": "toy", "max_tokens": 50, "messages": HI, **fields}
    whole = await claude.messages.create(**asked)
    async with claude.messages.stream(**asked) as stream:
        folded = await stream.get_final_message()

    def content(message: Message) -> list[dict[str, Any]]:
        blocks = [block.to_dict() for block in message.content]
        return [{k: v for k, v in block.items() if k not in ("id", "citations", "parsed_output")} for block in blocks]

    assert content(folded) == content(whole)
    assert (folded.stop_reason, folded.usage.to_dict()) == (whole.stop_reason, whole.usage.to_dict())
    TypeAdapter(Message).validate_python(whole.to_dict())


async def test_a_call_and_its_result(
    claude: anthropic.AsyncAnthropic, downstream: Downstream, toy_tokenizer: Tokenizer
) -> None:
    downstream.script = saying(*in_pieces(f"Let me see. {CALL}"))
    first = await claude.messages.create(model="toy", max_tokens=50, messages=HI, tools=TOOLS)
    text, call = first.content
    assert text.type == "text"
    assert call.type == "tool_use"
    assert (call.name, call.input, first.stop_reason) == ("get_weather", {"city": "Köln"}, "tool_use")
    assert call.id.startswith("toolu_")
    result: Any = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "rain"}]}
    failed: Any = {"type": "tool_result", "tool_use_id": call.id, "content": "no", "is_error": True}
    turns: Any = [
        *HI,
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [result, failed, {"type": "text", "text": "And now?"}]},
    ]
    await claude.messages.create(model="toy", max_tokens=50, messages=turns, tools=TOOLS)
    prompt = last_prompt(downstream, toy_tokenizer)
    assert 'Let me see. \n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln"}}' in prompt
    assert "<tool_response>\nrain\n</tool_response>\n<tool_response>\nThe tool failed.\nno\n</tool_response>" in prompt
    assert prompt.endswith("And now?<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("choice", "is_obeyed"),
    [
        ({"type": "any"}, True),
        ({"type": "tool", "name": "get_weather"}, True),
        ({"type": "auto", "disable_parallel_tool_use": True}, True),
        ({"type": "auto"}, False),
    ],
)
async def test_how_tools_may_be_used(
    claude: anthropic.AsyncAnthropic, downstream: Downstream, choice: Any, is_obeyed: bool
) -> None:
    downstream.script = saying(*in_pieces(CALL))
    await claude.messages.create(model="toy", max_tokens=50, messages=HI, tools=TOOLS, tool_choice=choice)
    [generate] = downstream.generates.values()
    assert (generate.sampling.grammar is not None) == is_obeyed


async def test_tools_that_must_not_be_used_are_not_told(
    claude: anthropic.AsyncAnthropic, downstream: Downstream, toy_tokenizer: Tokenizer
) -> None:
    await claude.messages.create(model="toy", max_tokens=50, messages=HI, tools=TOOLS, tool_choice={"type": "none"})
    assert "get_weather" not in last_prompt(downstream, toy_tokenizer)


@pytest.mark.parametrize(
    ("finish", "matched", "reason", "sequence"),
    [
        (Finish.STOP, "END", "stop_sequence", "END"),
        (Finish.STOP, 2, "end_turn", None),
        (Finish.LENGTH, None, "model_context_window_exceeded", None),
    ],
)
async def test_why_it_ended(
    claude: anthropic.AsyncAnthropic,
    downstream: Downstream,
    finish: Finish,
    matched: str | int | None,
    reason: str,
    sequence: str | None,
) -> None:
    downstream.script = saying("some", finish=finish, matched=matched)
    asked: dict[str, Any] = {"model": "toy", "max_tokens": 50, "messages": HI, "stop_sequences": ["END"]}
    message = await claude.messages.create(**asked)
    assert (message.stop_reason, message.stop_sequence) == (reason, sequence)


async def test_an_answer_is_as_long_as_there_is_room_for(
    claude: anthropic.AsyncAnthropic, downstream: Downstream
) -> None:
    downstream.script = saying("some", finish=Finish.LENGTH)
    message = await claude.messages.create(model="toy", max_tokens=10_000, messages=HI, timeout=30)
    assert message.stop_reason == "model_context_window_exceeded"
    [generate] = downstream.generates.values()
    assert generate.sampling.max_tokens + len(generate.input_ids) // 4 == 4000
    message = await claude.messages.create(model="toy", max_tokens=2, messages=HI)
    assert message.stop_reason == "max_tokens"


async def test_what_the_answer_must_look_like(claude: anthropic.AsyncAnthropic, downstream: Downstream) -> None:
    downstream.script = saying('{"city":', '"Köln"}')
    format: Any = {"format": {"type": "json_schema", "schema": WEATHER}}
    message = await claude.messages.create(model="toy", max_tokens=50, messages=HI, output_config=format)
    [generate] = downstream.generates.values()
    assert generate.sampling.grammar is not None
    assert message.content[0].type == "text"
    assert json.loads(message.content[0].text) == {"city": "Köln"}


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_form_beside_tools(claude: anthropic.AsyncAnthropic, downstream: Downstream, streamed: bool) -> None:
    """A call, or text of the form whatever stands in it."""
    format: Any = {"format": {"type": "json_schema", "schema": SKY}}
    asked: Any = {"model": "toy", "max_tokens": 99, "messages": HI, "tools": TOOLS, "output_config": format}
    told = json.dumps({"sky": CALL}, ensure_ascii=False)
    for said in (CALL, told):
        downstream.script = saying(*in_pieces(said))
        if streamed:
            async with claude.messages.stream(**asked) as stream:
                message = await stream.get_final_message()
        else:
            message = await claude.messages.create(**asked)
        [block] = message.content
        if said == CALL:
            assert block.type == "tool_use"
            assert (block.name, message.stop_reason) == ("get_weather", "tool_use")
        else:
            assert block.type == "text"
            assert (block.text, message.stop_reason) == (told, "end_turn")


async def test_tokens_are_counted_as_they_are_used(claude: anthropic.AsyncAnthropic, downstream: Downstream) -> None:
    asked: dict[str, Any] = {"model": "toy", "messages": HI, "system": "Be kind.", "tools": TOOLS}
    count = await claude.messages.count_tokens(**asked)
    assert not downstream.generates
    await claude.messages.create(max_tokens=5, **asked)
    [generate] = downstream.generates.values()
    assert count.input_tokens == len(generate.input_ids) // 4


async def test_turns_of_one_role_are_one(
    http: aiohttp.ClientSession, downstream: Downstream, toy_tokenizer: Tokenizer
) -> None:
    text = {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}}
    turns = [{"role": "user", "content": "a"}, {"role": "user", "content": [text]}]
    await events_of(http, messages=turns, system=[{"type": "text", "text": "s"}, {"type": "text", "text": "t"}])
    assert last_prompt(downstream, toy_tokenizer) == (
        "<|im_start|>system\ns\nt<|im_end|>\n<|im_start|>user\na\nb<|im_end|>\n<|im_start|>assistant\n"
    )


IMAGE: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": None}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens must be at least 0"),
    ({"output_config": {"effort": "huge"}}, "output_config.effort must be"),
    ({"messages": []}, "messages is empty"),
    ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text is missing"),
    ({"messages": [{"role": "bot", "content": "a"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content is missing"),
    ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a"}]}]}, "content[0].name is missing"),
    ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "tool_use_id is missing"),
    ({"stop_sequences": [""]}, "stop_sequences holds an empty string"),
    ({"temperature": 3}, "temperature must be between"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"name": "a"}]}, "tools[0].input_schema is missing"),
    ({"tools": [{"name": "a b", "input_schema": WEATHER}]}, "tools[0].name is 'a b'"),
    ({"tools": [{"name": "a", "input_schema": {"type": "array"}}]}, "tools[0].input_schema.type"),
    ({"tools": TOOLS, "tool_choice": {"type": "tool", "name": "b"}}, "tool_choice.name is 'b'"),
    ({"tools": TOOLS, "tool_choice": {"type": "tool"}}, "tool_choice.name is missing"),
    ({"tools": TOOLS, "tool_choice": {"type": "best"}}, "tool_choice.type"),
    ({"thinking": {"type": "enabled", "budget_tokens": 5}}, "thinking.budget_tokens must be at least"),
    ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking.budget_tokens must be less than max_tokens"),
    ({"thinking": {"type": "hard"}}, "thinking.type"),
    ({"container": "c"}, "'container' is not supported"),
    ({"mcp_servers": [{"type": "url"}]}, "'mcp_servers' is not supported"),
    ({"output_config": {"format": {"type": "xml", "schema": {}}}}, "output_config.format.type"),
    ({"output_config": {"format": {"type": "json_schema", "schema": {"type": "no"}}}}, "output_config.format.schema"),
    ({"metadata": {"user_id": "u" * 600}}, "metadata.user_id has 600 characters"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
async def test_what_is_refused_by_name(http: aiohttp.ClientSession, change: dict[str, Any], message: str) -> None:
    body = {"model": "toy", "max_tokens": 50, "messages": HI} | change
    async with http.post(MESSAGES, json={k: v for k, v in body.items() if v is not None}) as response:
        answer = await response.json()
        assert response.status == 400, answer
    assert answer.keys() == {"type", "error", "request_id"}
    assert (answer["type"], answer["error"]["type"]) == ("error", "invalid_request_error")
    assert message in answer["error"]["message"]
    assert answer["request_id"] == response.headers["request-id"] == response.headers["X-Request-Id"]


async def test_errors_are_what_the_client_knows(
    claude: anthropic.AsyncAnthropic, downstream: Downstream, start_door: StartDoor, url: str
) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        await claude.messages.create(model="claude", max_tokens=5, messages=HI)
    assert caught.value.type == "not_found_error"
    assert "toy" in str(caught.value)

    async def full(downstream: Downstream, generate: Generate) -> None:
        await downstream.fail(generate, Failure.QUEUE_FULL)

    downstream.script = full
    with pytest.raises(anthropic.RateLimitError) as refused:
        await claude.messages.create(model="toy", max_tokens=5, messages=HI)
    assert refused.value.type == "rate_limit_error"
    assert refused.value.response.headers["Retry-After"]


async def test_the_key_is_taken_from_anthropic_s_header(
    start_door: StartDoor, downstream: Downstream, url: str
) -> None:
    await start_door(api_keys="alice:alices-key-0123")
    async with anthropic.AsyncAnthropic(base_url=url, api_key="alices-key-0123", max_retries=5) as claude:
        assert (await claude.messages.create(model="toy", max_tokens=5, messages=HI)).stop_reason == "end_turn"
    async with anthropic.AsyncAnthropic(base_url=url, api_key="someone-elses-key", max_retries=0) as stranger:
        with pytest.raises(anthropic.AuthenticationError) as caught:
            await stranger.messages.create(model="toy", max_tokens=5, messages=HI)
    assert caught.value.type == "authentication_error"


async def test_a_stream_that_breaks_ends_in_an_error_event(
    claude: anthropic.AsyncAnthropic, downstream: Downstream
) -> None:
    async def breaking(downstream: Downstream, generate: Generate) -> None:
        await endless(downstream, generate)
        await downstream.fail(generate, Failure.WORKER, "the worker died")

    downstream.script = breaking
    with pytest.raises(anthropic.APIStatusError) as caught:
        async with claude.messages.stream(model="toy", max_tokens=5, messages=HI) as stream:
            await stream.get_final_message()
    assert "the worker died" in str(caught.value)


@pytest.mark.parametrize("script", [endless, admitted_only])
async def test_a_client_that_leaves_frees_its_row(
    http: aiohttp.ClientSession, downstream: Downstream, script: Script
) -> None:
    downstream.script = script
    body = {"model": "toy", "max_tokens": 50, "messages": HI, "stream": script is endless}
    asking = asyncio.create_task(http.post(MESSAGES, json=body))
    await downstream.until(lambda: bool(downstream.generates))
    await asyncio.sleep(0.1)
    if asking.done():
        asking.result().close()
    asking.cancel()
    await downstream.until(lambda: bool(downstream.received(Abort)))


async def test_many_at_once(claude: anthropic.AsyncAnthropic) -> None:
    async def one(number: int) -> str:
        async with claude.messages.stream(
            model="toy", max_tokens=9, messages=HI, metadata={"user_id": str(number)}
        ) as s:
            return await s.get_final_text()

    assert await asyncio.gather(*map(one, range(20))) == ["Hello wörld"] * 20


async def test_the_beginning_of_an_answer_is_continued(
    claude: anthropic.AsyncAnthropic, downstream: Downstream, toy_tokenizer: Tokenizer
) -> None:
    turns: Any = [*HI, {"role": "assistant", "content": "Well, ("}]
    await claude.messages.create(model="toy", max_tokens=50, messages=turns)
    assert last_prompt(downstream, toy_tokenizer).endswith("<|im_start|>assistant\nWell, (")


async def test_what_is_too_long_is_counted(claude: anthropic.AsyncAnthropic) -> None:
    long: Any = [{"role": "user", "content": "é" * 30_000}]
    assert (await claude.messages.count_tokens(model="toy", messages=long)).input_tokens > 4000
    with pytest.raises(anthropic.BadRequestError, match="maximum context length"):
        await claude.messages.create(model="toy", max_tokens=5, messages=long)
