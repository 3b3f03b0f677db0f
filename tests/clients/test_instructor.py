"""instructor, which brings openai 2: tools, JSON, and JSON held by a schema; whole and streamed."""

from __future__ import annotations

from typing import Any, Literal

import instructor
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, Field

from tests.clients.serving import MODEL

MODES = [
    instructor.Mode.TOOLS,
    instructor.Mode.TOOLS_STRICT,
    instructor.Mode.JSON_SCHEMA,
]


class Fox(BaseModel):
    """A fox."""

    name: str = Field(max_length=12)
    colour: Literal["red", "white"]
    age: int = Field(ge=1, le=9)


class Thing(BaseModel):
    """Any object."""

    name: Any = None


ASKED = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Describe a fox: its name, its colour and its age."}],
    "temperature": 0,
    "max_retries": 1,
    "max_tokens": 200,
}


@pytest.fixture
def openai_client(base_url: str) -> OpenAI:
    return OpenAI(base_url=base_url, api_key="none", max_retries=0)


@pytest.mark.parametrize("mode", MODES)
def test_an_object(openai_client: OpenAI, mode: instructor.Mode) -> None:
    client = instructor.from_openai(openai_client, mode=mode)
    assert isinstance(client.chat.completions.create(response_model=Fox, **ASKED), Fox)


def test_json_that_only_the_prompt_describes(openai_client: OpenAI) -> None:
    """response_format promises an object of JSON; which keys it has is up to the model."""
    client = instructor.from_openai(openai_client, mode=instructor.Mode.JSON)
    assert isinstance(client.chat.completions.create(response_model=Thing, **ASKED, frequency_penalty=0.5), Thing)


def test_json_in_markdown(openai_client: OpenAI) -> None:
    """Nothing in this mode tells the server what is wanted: the schema goes along, as small models need it."""
    client = instructor.from_openai(openai_client, mode=instructor.Mode.MD_JSON)
    schema = {"guided_json": Fox.model_json_schema()}
    assert isinstance(client.chat.completions.create(response_model=Fox, **ASKED, extra_body=schema), Fox)


@pytest.mark.parametrize("mode", MODES)
def test_partial_objects(openai_client: OpenAI, mode: instructor.Mode) -> None:
    client = instructor.from_openai(openai_client, mode=mode)
    parts = list(client.chat.completions.create_partial(response_model=Fox, **ASKED))
    assert len(parts) > 1
    assert Fox.model_validate(parts[-1].model_dump())


def test_several_objects(openai_client: OpenAI) -> None:
    client = instructor.from_openai(openai_client, mode=instructor.Mode.TOOLS)
    for fox in client.chat.completions.create_iterable(response_model=Fox, **ASKED | {"max_tokens": 100}):
        assert isinstance(fox, Fox)
        break


async def test_async(base_url: str) -> None:
    async with AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as inner:
        client = instructor.from_openai(inner, mode=instructor.Mode.TOOLS)
        assert isinstance(await client.chat.completions.create(response_model=Fox, **ASKED), Fox)
