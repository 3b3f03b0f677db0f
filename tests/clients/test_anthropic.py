"""The anthropic package: messages, streams, tools, its tool runner, counting; and LangChain's ChatAnthropic."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic, beta_tool
from langchain_anthropic import ChatAnthropic
from pydantic import BaseModel, Field

from tests.clients.serving import MODEL, PLACES, SCRIPTED

QUESTION = [{"role": "user", "content": "Say hello."}]
GREEDY = {"extra_body": {"temperature": 0}}  # the package has no argument for it any more
WEATHER = {
    "name": "get_weather",
    "description": "The weather at a location.",
    "input_schema": {
        "type": "object",
        "properties": {"location": {"type": "string", "maxLength": 20}},
        "required": ["location"],
    },
}


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=12)
    population: int = Field(ge=1, le=30_000_000)


@pytest.fixture
def client(url: str) -> Iterator[Anthropic]:
    with Anthropic(base_url=url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def scripted_client(scripted_url: str) -> Iterator[Anthropic]:
    with Anthropic(base_url=scripted_url.removesuffix("/v1"), api_key="none", max_retries=0) as client:
        yield client


def test_a_message(client: Anthropic) -> None:
    reply = client.messages.create(model=MODEL, max_tokens=16, system="Be brief.", messages=QUESTION, **GREEDY)
    assert reply.content[0].type == "text"
    assert reply.usage.output_tokens
    counted = client.messages.count_tokens(model=MODEL, system="Be brief.", messages=QUESTION)
    usage = reply.usage
    cached = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    assert counted.input_tokens == usage.input_tokens + cached


def test_a_stream_says_what_the_whole_message_says(client: Anthropic) -> None:
    asked = {"model": MODEL, "max_tokens": 16, "messages": QUESTION, **GREEDY}
    with client.messages.stream(**asked) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    whole = client.messages.create(**asked)
    assert whole.content[0].text == text == final.content[0].text
    assert whole.stop_reason == final.stop_reason


def test_stop_sequences(client: Anthropic) -> None:
    asked = {"model": MODEL, "max_tokens": 16, "messages": QUESTION, **GREEDY}
    text = client.messages.create(**asked).content[0].text
    reply = client.messages.create(**asked, stop_sequences=[text[4:8]])
    assert reply.stop_reason == "stop_sequence"
    assert reply.stop_sequence == text[4:8]


def test_errors(client: Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match=MODEL):
        client.messages.create(model="claude-opus-4-1", max_tokens=16, messages=QUESTION)
    with pytest.raises(anthropic.BadRequestError, match=r"too long|maximum context length"):
        client.messages.create(model=MODEL, max_tokens=16, messages=[{"role": "user", "content": "word " * 9000}])


def test_a_tool_that_must_be_called(client: Anthropic) -> None:
    reply = client.messages.create(
        model=MODEL,
        max_tokens=100,
        messages=[{"role": "user", "content": "Weather in Oslo?"}],
        tools=[WEATHER],
        tool_choice={"type": "tool", "name": "get_weather"},
        **GREEDY,
    )
    assert reply.stop_reason == "tool_use"
    assert set(reply.content[-1].input) == {"location"}


def test_a_tool_is_called_and_its_result_used(scripted_client: Anthropic) -> None:
    asked = {"model": SCRIPTED, "max_tokens": 100, "tools": [WEATHER]}
    messages = [{"role": "user", "content": "Weather in both cities?"}]
    with scripted_client.messages.stream(messages=messages, **asked) as stream:
        first = stream.get_final_message()
    calls = [block for block in first.content if block.type == "tool_use"]
    assert [call.input["location"] for call in calls] == list(PLACES[1:])
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "sun"} for call in calls]
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    final = scripted_client.messages.create(messages=messages, **asked)
    assert final.content[0].text == "It is sunny there, the tool says."


def test_the_tool_runner(scripted_client: Anthropic) -> None:
    asked: list[str] = []

    @beta_tool
    def get_weather(location: str) -> str:
        """Get the weather.

        Args:
            location: where
        """
        asked.append(location)
        return "sunny"

    runner = scripted_client.beta.messages.tool_runner(
        model=SCRIPTED, max_tokens=100, tools=[get_weather], messages=[{"role": "user", "content": "Weather?"}]
    )
    final = runner.until_done()
    assert len(asked) == 1
    assert final.content[0].text == "It is sunny there, the tool says."


def test_thinking(scripted_client: Anthropic) -> None:
    reply = scripted_client.messages.create(
        model=SCRIPTED, max_tokens=1100, messages=[{"role": "user", "content": "Please think."}],
        thinking={"type": "enabled", "budget_tokens": 1024},
    )  # fmt: skip
    assert [block.type for block in reply.content] == ["thinking", "text"]
    assert reply.content[0].thinking == "This needs a thought."


async def test_async(url: str) -> None:
    client = AsyncAnthropic(base_url=url, api_key="none", max_retries=0)
    async with client, client.messages.stream(model=MODEL, max_tokens=8, messages=QUESTION) as stream:
        assert "".join([text async for text in stream.text_stream])


def test_langchain(url: str, scripted_url: str) -> None:
    common = {"api_key": "none", "max_retries": 0, "max_tokens": 100}
    model = ChatAnthropic(model=MODEL, base_url=url, temperature=0, **common)
    assert model.invoke("Say hello.").content
    assert "".join(str(chunk.content) for chunk in model.stream("Say hello."))
    assert isinstance(model.with_structured_output(City).invoke("Describe Paris."), City)
    agent = ChatAnthropic(model=SCRIPTED, base_url=scripted_url.removesuffix("/v1"), **common).bind_tools([WEATHER])
    assert agent.invoke("Weather?").tool_calls[0]["args"] == {"location": PLACES[0]}
