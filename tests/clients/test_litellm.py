"""LiteLLM: as a library, with its provider for any server of OpenAI's API, and with the one for vLLM."""

from __future__ import annotations

import json
from typing import Any

import litellm
import pytest
from pydantic import BaseModel, Field

from tests.clients.serving import MODEL, SCRIPTED

QUESTION = [{"role": "user", "content": "Say hello."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
    },
}


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=12)
    rivers: list[str] = Field(max_length=2)


@pytest.fixture(params=["openai", "hosted_vllm"])
def asked(request: pytest.FixtureRequest, base_url: str) -> dict[str, Any]:
    common = {"api_base": base_url, "api_key": "none", "max_retries": 0, "temperature": 0, "max_tokens": 24}
    return {"model": f"{request.param}/{MODEL}", "messages": QUESTION, **common}


def test_completion(asked: dict[str, Any]) -> None:
    reply = litellm.completion(**asked)
    assert reply.choices[0].message.content
    assert reply.usage.completion_tokens


def test_stream(asked: dict[str, Any]) -> None:
    chunks = list(litellm.completion(**asked, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == litellm.completion(**asked).choices[0].message.content
    rebuilt = litellm.stream_chunk_builder(chunks, messages=asked["messages"])
    assert rebuilt.choices[0].message.content == text


async def test_async(asked: dict[str, Any]) -> None:
    stream = await litellm.acompletion(**asked, stream=True)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


def test_structured(asked: dict[str, Any]) -> None:
    reply = litellm.completion(**asked | {"max_tokens": 300, "frequency_penalty": 0.5}, response_format=City)
    assert City.model_validate_json(reply.choices[0].message.content)


def test_an_unknown_model(asked: dict[str, Any]) -> None:
    with pytest.raises(litellm.NotFoundError, match=MODEL):
        litellm.completion(**asked | {"model": asked["model"].partition("/")[0] + "/gpt-4o"})


def test_a_prompt_that_is_too_long(asked: dict[str, Any]) -> None:
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(**asked | {"messages": [{"role": "user", "content": "word " * 9000}]})


def test_text_completion(base_url: str) -> None:
    asked = {"model": f"text-completion-openai/{MODEL}", "api_base": base_url, "api_key": "none", "max_tokens": 8}
    assert litellm.text_completion(prompt="One, two,", **asked).choices[0].text


def test_a_tool_is_called_and_its_result_used(scripted_url: str) -> None:
    asked = {"model": f"openai/{SCRIPTED}", "api_base": scripted_url, "api_key": "none", "tools": [WEATHER]}
    messages: list[Any] = [{"role": "user", "content": "Weather in both cities?"}]
    message = litellm.completion(messages=messages, **asked).choices[0].message
    places = [json.loads(call.function.arguments)["location"] for call in message.tool_calls]
    assert places == ["Oslo", "Lima, Peru"]
    results = [{"role": "tool", "tool_call_id": call.id, "content": "sun"} for call in message.tool_calls]
    final = litellm.completion(messages=[*messages, message, *results], **asked)
    assert final.choices[0].message.content == "It is sunny there, the tool says."


def test_reasoning(scripted_url: str) -> None:
    asked = {"model": f"hosted_vllm/{SCRIPTED}", "api_base": scripted_url, "api_key": "none"}
    messages = [{"role": "user", "content": "Please think."}]
    message = litellm.completion(messages=messages, **asked).choices[0].message
    assert message.reasoning_content == "This needs a thought."
    assert message.content == "I have thought about it."
    deltas = [chunk.choices[0].delta for chunk in litellm.completion(messages=messages, stream=True, **asked)]
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == "This needs a thought."
    assert "".join(delta.content or "" for delta in deltas) == "I have thought about it."
