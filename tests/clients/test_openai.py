"""The openai package. This file runs with two of its major versions: see requirements.lock and instructor.lock."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Literal

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionToolParam
from pydantic import BaseModel, Field

from tests.clients.recorder import Recorder
from tests.clients.serving import MODEL

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


class Weather(BaseModel):
    """The weather in a city."""

    city: str = Field(max_length=20)
    unit: Literal["celsius", "fahrenheit"]


class Step(BaseModel):
    """A step of an explanation."""

    explanation: str = Field(max_length=30)
    output: str = Field(max_length=20)


class Reasoning(BaseModel):
    """Nested structure, as OpenAI's guide has it."""

    steps: list[Step] = Field(max_length=2)
    final_answer: str = Field(max_length=20)


WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 20},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


@pytest.fixture
def client(base_url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        yield client


@pytest_asyncio.fixture
async def async_client(base_url: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        yield client


def test_models(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by


def test_an_unknown_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4o", messages=QUESTION)
    assert caught.value.code == "model_not_found"
    assert MODEL in caught.value.message


def test_a_chat(client: OpenAI) -> None:
    reply = client.chat.completions.create(model=MODEL, messages=QUESTION, max_completion_tokens=16, temperature=0)
    assert reply.choices[0].message.content
    assert reply.choices[0].message.refusal is None
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_a_stream_says_what_the_whole_answer_says(client: OpenAI) -> None:
    asked = {"model": MODEL, "messages": QUESTION, "max_tokens": 16, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    stream = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_all_roles_and_kinds_of_content(client: OpenAI) -> None:
    called = {"name": "get_weather", "arguments": '{"city": "Oslo", "unit": "celsius"}'}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "name": "ann", "content": [_text("The weather"), _text("in Oslo?")]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": called}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": [_text("3 degrees, rain")]},
        {"role": "assistant", "content": [_text("It rains.")]},
        {"role": "user", "content": "Thanks. And tomorrow?"},
    ]  # fmt: skip
    reply = client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER], max_tokens=8)
    assert reply.choices[0].finish_reason in ("stop", "length", "tool_calls")


def test_several_choices_differ_by_seed_and_repeat_with_it(client: OpenAI) -> None:
    asked = {"model": MODEL, "messages": QUESTION, "max_tokens": 12, "n": 3, "seed": 7, "temperature": 1.2}
    first, second = (client.chat.completions.create(**asked) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert len(set(texts)) > 1
    assert texts == [choice.message.content for choice in second.choices]
    streamed = ["", "", ""]
    for chunk in client.chat.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts


def test_sampling_fields(client: OpenAI) -> None:
    reply = client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        max_tokens=8,
        temperature=0.5,
        top_p=0.9,
        frequency_penalty=0.5,
        presence_penalty=0.5,
        logit_bias={"5": -100},
        stop=["\n\n"],
        user="ann",
        extra_body={"top_k": 10, "min_p": 0.05, "repetition_penalty": 1.1},
    )
    assert reply.choices[0].message.content


def test_a_stop_string_ends_the_answer_and_is_left_out(client: OpenAI) -> None:
    asked = {"model": MODEL, "messages": QUESTION, "max_tokens": 16, "temperature": 0}
    text = client.chat.completions.create(**asked).choices[0].message.content or ""
    stop = text.split()[2]
    reply = client.chat.completions.create(**asked, stop=[stop])
    assert reply.choices[0].finish_reason == "stop"
    assert reply.choices[0].message.content == text[: text.index(stop)]


def test_a_prompt_that_is_too_long_is_refused_in_words_that_clients_know(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "word " * 9000}])
    assert caught.value.code == "context_length_exceeded"
    assert "maximum context length" in caught.value.message


def test_parse_with_pydantic(client: OpenAI) -> None:
    reply = client.chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": "Solve 8x + 7 = -23."}],
        response_format=Reasoning,
        temperature=0,
    )
    assert isinstance(reply.choices[0].message.parsed, Reasoning)


def test_parse_tools_with_pydantic(client: OpenAI) -> None:
    tool = openai.pydantic_function_tool(Weather, name="get_weather")
    reply = client.chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": "Weather in Oslo?"}],
        tools=[tool],
        tool_choice="required",
        temperature=0,
    )
    calls = reply.choices[0].message.tool_calls
    assert calls
    assert isinstance(calls[0].function.parsed_arguments, Weather)
    assert reply.choices[0].finish_reason == "tool_calls"


def test_json_object(client: OpenAI) -> None:
    reply = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "A fox as JSON."}],
        response_format={"type": "json_object"},
        max_tokens=200,
        temperature=0,
    )
    if reply.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(reply.choices[0].message.content or ""), dict)


def test_the_streaming_helper_reports_its_events(client: OpenAI) -> None:
    kinds: set[str] = set()
    with client.chat.completions.stream(
        model=MODEL,
        messages=[{"role": "user", "content": "Solve 2x = 4."}],
        response_format=Reasoning,
        temperature=0,
        stream_options={"include_usage": True},
    ) as stream:
        for event in stream:
            kinds.add(event.type)
        final = stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Reasoning)
    assert kinds >= {"chunk", "content.delta", "content.done"}
    assert final.usage is not None


def test_the_streaming_helper_reads_tool_calls(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL,
        messages=[{"role": "user", "content": "Weather in Oslo?"}],
        tools=[openai.pydantic_function_tool(Weather, name="get_weather")],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        temperature=0,
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert calls
    assert isinstance(calls[0].function.parsed_arguments, Weather)
    assert kinds.count("tool_calls.function.arguments.delta") > 1
    assert "tool_calls.function.arguments.done" in kinds


def test_a_conversation_with_a_tool(client: OpenAI) -> None:
    messages = [{"role": "user", "content": "Weather in Oslo?"}]
    first = client.chat.completions.create(
        model=MODEL, messages=messages, tools=[WEATHER], tool_choice="required", temperature=0
    )
    message = first.choices[0].message
    assert message.tool_calls
    arguments = json.loads(message.tool_calls[0].function.arguments)
    assert Weather.model_validate(arguments)
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "3 degrees"}
    second = client.chat.completions.create(
        model=MODEL,
        messages=[*messages, message, result],
        tools=[WEATHER],
        tool_choice="none",
        max_tokens=16,
        temperature=0,
    )
    assert second.choices[0].message.content
    assert not second.choices[0].message.tool_calls


def test_raw_and_streaming_responses(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=QUESTION, max_tokens=4)
    assert raw.headers["content-type"].startswith("application/json")
    assert raw.parse().choices
    with client.chat.completions.with_streaming_response.create(
        model=MODEL, messages=QUESTION, max_tokens=4
    ) as response:
        assert b"chat.completion" in response.read()


def test_completions(client: OpenAI) -> None:
    asked = {"model": MODEL, "max_tokens": 8, "temperature": 0}
    reply = client.completions.create(prompt=["The capital of France is", "One, two, three,"], **asked)
    assert [choice.index for choice in reply.choices] == [0, 1]
    streamed = ["", ""]
    for chunk in client.completions.create(
        prompt=["The capital of France is", "One, two, three,"],
        stream=True,
        stream_options={"include_usage": True},
        **asked,
    ):
        for choice in chunk.choices:
            streamed[choice.index] += choice.text
    assert streamed == [choice.text for choice in reply.choices]
    assert client.completions.create(prompt=[1, 2, 3], **asked).choices[0].finish_reason
    assert len(client.completions.create(prompt=[[1, 2, 3], [4, 5]], **asked).choices) == 2


async def test_many_at_once(async_client: AsyncOpenAI) -> None:
    async def one(number: int) -> str:
        stream = await async_client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": f"Say the number {number}."}],
            max_tokens=8,
            stream=True,
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert all(await asyncio.gather(*(one(number) for number in range(12))))


async def test_a_client_may_leave_in_the_middle(async_client: AsyncOpenAI, recorder: Recorder) -> None:
    async with async_client.chat.completions.stream(model=MODEL, messages=QUESTION, max_tokens=2000) as stream:
        async for event in stream:
            if event.type == "content.delta":
                break
    reply = await async_client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=4)
    assert reply.choices


async def test_async_parse(async_client: AsyncOpenAI) -> None:
    reply = await async_client.chat.completions.parse(
        model=MODEL, messages=[{"role": "user", "content": "Weather in Rome?"}], response_format=Weather, temperature=0
    )
    assert isinstance(reply.choices[0].message.parsed, Weather)


def test_log_probabilities(client: OpenAI) -> None:
    asked = {
        "model": MODEL,
        "messages": QUESTION,
        "max_tokens": 6,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 3,
    }
    reply = client.chat.completions.create(**asked)
    scores = reply.choices[0].logprobs
    assert scores is not None
    assert scores.content is not None
    assert reply.usage is not None
    assert len(scores.content) == reply.usage.completion_tokens
    assert all(
        len(entry.top_logprobs) == 3 and entry.top_logprobs[0].logprob >= entry.logprob for entry in scores.content
    )
    assert b"".join(bytes(entry.bytes or ()) for entry in scores.content).decode() == reply.choices[0].message.content
    streamed = [
        entry
        for chunk in client.chat.completions.create(**asked, stream=True)
        if chunk.choices[0].logprobs is not None
        for entry in chunk.choices[0].logprobs.content or ()
    ]
    assert [entry.token for entry in streamed] == [entry.token for entry in scores.content]


def test_log_probabilities_of_a_prompt(client: OpenAI) -> None:
    reply = client.completions.create(
        model=MODEL, prompt="The capital of France is", echo=True, logprobs=2, max_tokens=1, temperature=0
    )
    scores = reply.choices[0].logprobs
    assert scores is not None
    assert scores.token_logprobs is not None
    assert reply.usage is not None
    assert scores.token_logprobs[0] is None
    assert len(scores.token_logprobs) == reply.usage.prompt_tokens + 1


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings(client: OpenAI, encoding: Literal["float", "base64"]) -> None:
    asked = {"model": MODEL, "input": ["a red fox", "a white fox"]}
    reply = client.embeddings.create(**asked, encoding_format=encoding)
    assert [item.index for item in reply.data] == [0, 1]
    assert reply.usage.prompt_tokens
    unstated = client.embeddings.create(**asked)  # the package asks for base64 then, and decodes it
    assert unstated.data[0].embedding[:3] == pytest.approx([*unstated.data[0].embedding[:3]])
    if encoding == "float":
        assert unstated.data[0].embedding == pytest.approx(reply.data[0].embedding, abs=1e-6)
