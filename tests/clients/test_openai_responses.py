"""The openai package's Responses API, and openai-agents with it, as that package uses it by default."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest
from agents import Agent, OpenAIResponsesModel, Runner, function_tool
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, Field

from tests.clients.serving import MODEL, PLACES, SCRIPTED

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather at a location.",
    "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
    "strict": False,
}


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=12)
    population: int = Field(ge=1, le=30_000_000)


class Report(BaseModel):
    """What a tool was asked for, in the shape that was asked for."""

    place: str
    sky: str


@pytest.fixture
def client(base_url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def scripted_client(scripted_url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=scripted_url, api_key="none", max_retries=0) as client:
        yield client


def test_a_response_is_kept_and_gone_on_with(client: OpenAI) -> None:
    asked = {"model": MODEL, "temperature": 0, "max_output_tokens": 16}
    first = client.responses.create(input="Say hello.", instructions="Be brief.", **asked)
    assert first.output_text
    assert client.responses.retrieve(first.id).output_text == first.output_text
    second = client.responses.create(input="And goodbye.", previous_response_id=first.id, **asked)
    assert second.previous_response_id == first.id
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens


def test_a_stream_says_what_the_whole_response_says(client: OpenAI) -> None:
    asked = {"model": MODEL, "input": "Say hello.", "temperature": 0, "max_output_tokens": 16}
    events = list(client.responses.create(**asked, stream=True))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == client.responses.create(**asked).output_text


def test_parse_with_pydantic(client: OpenAI) -> None:
    reply = client.responses.parse(model=MODEL, input="Describe Paris.", text_format=City, temperature=0)
    assert isinstance(reply.output_parsed, City)


def test_the_streaming_helper_parses(client: OpenAI) -> None:
    with client.responses.stream(model=MODEL, input="Describe Paris.", text_format=City, temperature=0) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_response()
    assert isinstance(final.output_parsed, City)
    assert kinds >= {
        "response.created",
        "response.output_text.delta",
        "response.output_text.done",
        "response.completed",
    }


def test_an_unknown_response(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_00000000000000000000000000000000")


def test_a_tool_is_called_and_its_result_used(scripted_client: OpenAI) -> None:
    asked = {"model": SCRIPTED, "tools": [WEATHER]}
    given = [{"role": "user", "content": "Weather in both cities?"}]
    first = scripted_client.responses.create(input=given, **asked)
    calls = [item for item in first.output if item.type == "function_call"]
    assert [json.loads(call.arguments)["location"] for call in calls] == list(PLACES[1:])
    results = [{"type": "function_call_output", "call_id": call.call_id, "output": "sun"} for call in calls]
    second = scripted_client.responses.create(input=[*given, *first.output, *results], **asked)
    assert second.output_text == "It is sunny there, the tool says."
    third = scripted_client.responses.create(input=results, previous_response_id=first.id, **asked)
    assert third.output_text == second.output_text


def test_reasoning(scripted_client: OpenAI) -> None:
    reply = scripted_client.responses.create(model=SCRIPTED, input="Please think.")
    assert [item.type for item in reply.output] == ["reasoning", "message"]
    assert reply.output_text == "I have thought about it."


@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
async def test_openai_agents(scripted_url: str, streamed: bool, typed: bool) -> None:
    asked: list[str] = []

    @function_tool
    def get_weather(location: str) -> str:
        """Get the weather at a location."""
        asked.append(location)
        return "sunny"

    client = AsyncOpenAI(base_url=scripted_url, api_key="none", max_retries=0)
    model = OpenAIResponsesModel(model=SCRIPTED, openai_client=client)
    agent = Agent(name="Weather", instructions="Be brief.", model=model, tools=[get_weather])
    if typed:
        agent = agent.clone(instructions="Write a report.", output_type=Report)
    if streamed:
        result = Runner.run_streamed(agent, "Weather?")
        assert [event async for event in result.stream_events()]
    else:
        result = await Runner.run(agent, "Weather?")
    assert len(asked) == 1
    answer = Report(place="Oslo", sky="sunny") if typed else "It is sunny there, the tool says."
    assert result.final_output == answer
