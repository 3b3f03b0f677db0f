"""What a model thinks, as blocks of messages and as items of responses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import openai
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from shared.tokenizer import Tokenizer
from tests.tokenizer_svc.conftest import StartDoor
from tests.tokenizer_svc.downstream import Downstream
from tests.tokenizer_svc.responses_api.test_responses_api import events_of
from tests.tokenizer_svc.speaking import in_pieces, last_prompt, saying
from tests.tokenizer_svc.test_reasoning_api import LIKE_QWEN3
from tests.toy import make_toy_model
from tokenizer_svc.responses_api.opaque import opaque, plain

SAID = "<think>\nHm, fox.\n</think>\n\nA fox."
HI: Any = [{"role": "user", "content": "hi"}]


@pytest_asyncio.fixture
async def http(
    start_door: StartDoor, downstream: Downstream, url: str, tmp_path: Path
) -> AsyncIterator[aiohttp.ClientSession]:
    model = make_toy_model(tmp_path / "model")
    (model / "chat_template.jinja").write_text(LIKE_QWEN3)
    await start_door(model=str(model))
    downstream.script = saying(*in_pieces(SAID, 4))
    async with aiohttp.ClientSession(url) as session:
        yield session


async def test_thinking_blocks(http: aiohttp.ClientSession, url: str, downstream: Downstream) -> None:
    asked: dict[str, Any] = {"model": "toy", "max_tokens": 50, "messages": HI}
    async with anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0) as claude:
        thought, text = (await claude.messages.create(**asked)).content
        assert thought.type == "thinking"
        assert text.type == "text"
        assert (thought.thinking.strip(), text.text) == ("Hm, fox.", "A fox.")
        async with claude.messages.stream(**asked) as stream:
            folded = await stream.get_final_message()
        assert folded.content[0].to_dict() == thought.to_dict()
        hidden = await claude.messages.create(
            **asked, extra_body={"thinking": {"type": "adaptive", "display": "omitted"}}
        )
        assert hidden.content[0].type == "thinking"
        assert hidden.content[0].thinking == ""


@pytest.mark.parametrize("summary", [None, "auto"])
async def test_reasoning_items(
    http: aiohttp.ClientSession, url: str, downstream: Downstream, toy_tokenizer: Tokenizer, summary: str | None
) -> None:
    body: dict[str, Any] = {"input": "hi", "reasoning": {"summary": summary}}
    async with http.post("/v1/responses", json=body) as response:
        whole = await response.json()
    reasoning, message = whole["output"]
    told, untold = ("summary", "content") if summary else ("content", "summary")
    assert [part["text"].strip() for part in reasoning[told]] == ["Hm, fox."]
    assert reasoning[untold] == []
    assert message["content"][0]["text"] == "A fox."
    kinds = [event["type"] for event in await events_of(http, body)]
    expected = "response.reasoning_summary_text" if summary else "response.reasoning_text"
    assert {f"{expected}.delta", f"{expected}.done"} <= set(kinds)
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        await client.responses.create(model="toy", input="and?", previous_response_id=whole["id"])
    assert "<think>\nHm, fox.\n</think>\n\nA fox.<|im_end|>" in last_prompt(downstream, toy_tokenizer)


INCLUDE: dict[str, Any] = {"input": "hi", "store": False, "include": ["reasoning.encrypted_content"]}


@pytest.mark.parametrize("summary", [None, "auto"])
async def test_reasoning_goes_on_from_its_token_alone(
    http: aiohttp.ClientSession, downstream: Downstream, toy_tokenizer: Tokenizer, summary: str | None
) -> None:
    """As clients do that keep nothing here: they send items back, of reasoning no more than the token."""
    body = {**INCLUDE, "reasoning": {"summary": summary}}
    async with http.post("/v1/responses", json=body) as response:
        reasoning, message = (await response.json())["output"]
    events = await events_of(http, body)
    [streamed] = [
        event["item"]["encrypted_content"]
        for event in events
        if event["type"] == "response.output_item.done" and event["item"]["type"] == "reasoning"
    ]
    assert streamed == reasoning["encrypted_content"]
    kept = {"type": "reasoning", "summary": [], "encrypted_content": streamed}
    again = [{"role": "user", "content": "hi"}, kept, message, {"role": "user", "content": "and?"}]
    downstream.generates.clear()
    async with http.post("/v1/responses", json={**INCLUDE, "input": again}) as response:
        assert response.status == 200, await response.text()
    assert "<think>\nHm, fox.\n</think>\n\nA fox.<|im_end|>" in last_prompt(downstream, toy_tokenizer)


async def test_a_token_is_there_where_it_is_asked_for(http: aiohttp.ClientSession) -> None:
    async with http.post("/v1/responses", json={"input": "hi"}) as response:
        assert (await response.json())["output"][0]["encrypted_content"] is None


@pytest.mark.parametrize("token", ["gAAAAABo", "not base64", "ü", opaque("Hm.")[:-4], opaque("Hm.")[:-2] + "A="])
async def test_a_token_of_somebody_else_is_refused(http: aiohttp.ClientSession, token: str) -> None:
    item = {"type": "reasoning", "summary": [], "encrypted_content": token}
    async with http.post("/v1/responses", json={"input": [item, {"role": "user", "content": "hi"}]}) as response:
        assert response.status == 400
        error = (await response.json())["error"]
    assert (error["param"], error["code"]) == ("input[0].encrypted_content", "invalid_encrypted_content")
    assert "leave it out" in error["message"]


@given(st.text())
def test_any_text_has_a_token(text: str) -> None:
    assert plain(opaque(text)) == text


async def test_thinking_is_turned_off(
    http: aiohttp.ClientSession, downstream: Downstream, toy_tokenizer: Tokenizer
) -> None:
    for path, body in (
        ("/v1/messages", {"messages": HI, "max_tokens": 5, "thinking": {"type": "disabled"}}),
        ("/v1/responses", {"input": "hi", "reasoning": {"effort": "none"}}),
    ):
        async with http.post(path, json=body) as response:
            assert response.status == 200
        assert last_prompt(downstream, toy_tokenizer).endswith("<think>\n\n</think>\n\n")
