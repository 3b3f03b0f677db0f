"""OpenAI's Agents SDK with chat completions: agents, tools, handed-over conversations, typed output, streams."""

from __future__ import annotations

import pytest
from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, Runner, function_tool
from openai import AsyncOpenAI
from pydantic import BaseModel, Field

from tests.clients.serving import MODEL, PLACES, SCRIPTED


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=12)
    population: int = Field(ge=1, le=30_000_000)


class Report(BaseModel):
    """What a tool was asked for, in the shape that was asked for."""

    place: str
    sky: str


@pytest.fixture
def model(base_url: str) -> OpenAIChatCompletionsModel:
    client = AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0)
    return OpenAIChatCompletionsModel(model=MODEL, openai_client=client)


@pytest.fixture
def scripted_model(scripted_url: str) -> OpenAIChatCompletionsModel:
    client = AsyncOpenAI(base_url=scripted_url, api_key="none", max_retries=0)
    return OpenAIChatCompletionsModel(model=SCRIPTED, openai_client=client)


def weather_agent(model: OpenAIChatCompletionsModel, asked: list[str]) -> Agent:
    @function_tool
    def get_weather(location: str) -> str:
        """Get the weather at a location."""
        asked.append(location)
        return "sunny"

    return Agent(name="Weather", instructions="Be brief.", model=model, tools=[get_weather])


async def test_text(model: OpenAIChatCompletionsModel) -> None:
    agent = Agent(name="Talker", model=model, model_settings=ModelSettings(max_tokens=16, temperature=0))
    result = await Runner.run(agent, "Say hello.")
    assert result.final_output
    follow_up = await Runner.run(agent, [*result.to_input_list(), {"role": "user", "content": "And goodbye."}])
    assert follow_up.final_output


async def test_typed_output(model: OpenAIChatCompletionsModel) -> None:
    settings = ModelSettings(max_tokens=100, temperature=0)
    agent = Agent(name="Geographer", model=model, output_type=City, model_settings=settings)
    assert isinstance((await Runner.run(agent, "Describe Paris.")).final_output, City)


async def test_a_required_tool(model: OpenAIChatCompletionsModel) -> None:
    asked: list[str] = []
    agent = weather_agent(model, asked)
    agent.model_settings = ModelSettings(
        tool_choice="required", max_tokens=100, temperature=0, parallel_tool_calls=False
    )
    agent.tool_use_behavior = "stop_on_first_tool"
    assert (await Runner.run(agent, "Weather in Oslo?")).final_output == "sunny"
    assert len(asked) == 1


async def test_a_tool_is_called_and_its_result_used(scripted_model: OpenAIChatCompletionsModel) -> None:
    asked: list[str] = []
    result = await Runner.run(weather_agent(scripted_model, asked), "Weather in both cities?")
    assert sorted(asked) == ["Lima, Peru", "Oslo"]
    assert result.final_output == "It is sunny there, the tool says."


async def test_the_same_streamed(scripted_model: OpenAIChatCompletionsModel) -> None:
    asked: list[str] = []
    result = Runner.run_streamed(weather_agent(scripted_model, asked), "Weather?")
    kinds = {event.type async for event in result.stream_events()}
    assert len(asked) == 1
    assert asked[0] in PLACES
    assert result.final_output == "It is sunny there, the tool says."
    assert kinds >= {"raw_response_event", "run_item_stream_event"}


@pytest.mark.parametrize("streamed", [False, True])
async def test_typed_output_beside_tools(scripted_model: OpenAIChatCompletionsModel, streamed: bool) -> None:
    """Every turn asks for both: the first one calls, the second one answers in the form."""
    asked: list[str] = []
    agent = weather_agent(scripted_model, asked).clone(instructions="Write a report.", output_type=Report)
    if streamed:
        result = Runner.run_streamed(agent, "Weather?")
        assert [event async for event in result.stream_events()]
    else:
        result = await Runner.run(agent, "Weather?")
    assert len(asked) == 1
    assert result.final_output == Report(place="Oslo", sky="sunny")
