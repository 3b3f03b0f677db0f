"""Pydantic AI: agents with OpenAIChatModel; tools, typed output in its three ways, streams, reasoning."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, Field
from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.messages import ThinkingPart
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.clients.serving import MODEL, PLACES, SCRIPTED

SETTINGS = {"temperature": 0, "max_tokens": 200, "parallel_tool_calls": False}


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=12)
    population: int = Field(ge=1, le=30_000_000)


class Report(BaseModel):
    """What a tool was asked for, in the shape that was asked for."""

    place: str
    sky: str


@pytest.fixture
def model(base_url: str) -> OpenAIChatModel:
    return OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=base_url, api_key="none"))


@pytest.fixture
def scripted_model(scripted_url: str) -> OpenAIChatModel:
    return OpenAIChatModel(SCRIPTED, provider=OpenAIProvider(base_url=scripted_url, api_key="none"))


def weather_agent(model: OpenAIChatModel, asked: list[str]) -> Agent[None, str]:
    agent = Agent(model, instructions="Be brief.")

    @agent.tool_plain
    def get_weather(location: str) -> str:
        """Get the weather at a location."""
        asked.append(location)
        return "sunny"

    return agent


async def test_text(model: OpenAIChatModel) -> None:
    result = await Agent(model, instructions="Be brief.").run("Say hello.", model_settings={"max_tokens": 16})
    assert result.output
    assert result.usage.output_tokens


async def test_stream(model: OpenAIChatModel) -> None:
    async with Agent(model).run_stream("Say hello.", model_settings={"max_tokens": 16, "temperature": 0}) as result:
        parts = [text async for text in result.stream_text(delta=True, debounce_by=None)]
    assert len(parts) > 1


@pytest.mark.parametrize("way", [ToolOutput, NativeOutput])
async def test_typed_output(model: OpenAIChatModel, way: type) -> None:
    result = await Agent(model, output_type=way(City)).run("Describe Paris.", model_settings=SETTINGS)
    assert isinstance(result.output, City)


async def test_typed_output_by_prompt_with_a_schema_sent_along(model: OpenAIChatModel) -> None:
    schema = {"extra_body": {"guided_json": City.model_json_schema()}}
    agent = Agent(model, output_type=PromptedOutput(City))
    agent_model = OpenAIChatModel(MODEL, provider=model._provider, profile={"supports_json_object_output": False})
    result = await agent.run("Describe Paris.", model=agent_model, model_settings=SETTINGS | schema)
    assert isinstance(result.output, City)


async def test_streamed_typed_output(model: OpenAIChatModel) -> None:
    agent = Agent(model, output_type=NativeOutput(City))
    async with agent.run_stream("Describe Paris.", model_settings=SETTINGS) as result:
        assert isinstance(await result.get_output(), City)


async def test_a_tool_is_called_and_its_result_used(scripted_model: OpenAIChatModel) -> None:
    asked: list[str] = []
    result = await weather_agent(scripted_model, asked).run("Weather?")
    assert len(asked) == 1
    assert asked[0] in PLACES
    assert result.output == "It is sunny there, the tool says."


async def test_typed_output_beside_a_tool(scripted_model: OpenAIChatModel) -> None:
    asked: list[str] = []
    agent = weather_agent(scripted_model, asked)
    result = await agent.run("Weather for the report?", output_type=NativeOutput(Report))
    assert len(asked) == 1
    assert result.output == Report(place="Oslo", sky="sunny")


async def test_two_calls_at_once_and_streamed(scripted_model: OpenAIChatModel) -> None:
    asked: list[str] = []
    async with weather_agent(scripted_model, asked).run_stream("Weather in both cities?") as result:
        assert await result.get_output() == "It is sunny there, the tool says."
    assert sorted(asked) == ["Lima, Peru", "Oslo"]


async def test_reasoning(scripted_model: OpenAIChatModel) -> None:
    result = await Agent(scripted_model).run("Please think.")
    assert result.output == "I have thought about it."
    thoughts = [part.content for part in result.response.parts if isinstance(part, ThinkingPart)]
    assert thoughts == ["This needs a thought."]
