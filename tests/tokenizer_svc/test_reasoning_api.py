"""Reasoning over real HTTP: told apart from content, whole and in streams, with tools and without."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio

from shared import columns
from shared.grammar import Dfa, tables
from shared.protocol import Finish, Generate, ModelCard, Track
from shared.tokenizer import Tokenizer
from tests.tokenizer_svc.conftest import StartDoor
from tests.tokenizer_svc.downstream import ROOMY, Downstream, Script
from tests.toy import make_toy_model
from tokenizer_svc.draft import Display
from tokenizer_svc.reading import how_read
from tokenizer_svc.reasoning.formats import MARKS, ReasoningFormat
from tokenizer_svc.tools.formats import ToolFormat

CHAT = "/v1/chat/completions"
HI: Any = [{"role": "user", "content": "What is <think>?"}]
TOOLS: Any = [{"type": "function", "function": {"name": "get_time"}}]

LIKE_QWEN3 = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\n' }}
{%- if message.reasoning_content %}{{- '<think>\n' + message.reasoning_content + '\n</think>\n\n' }}{%- endif %}
{{- message.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{%- if always is defined %}{{- '<think>\n' }}{%- endif %}
{%- endif %}
"""
ALWAYS = {"chat_template_kwargs": {"always": True}}
NEVER = {"chat_template_kwargs": {"enable_thinking": False}}


@pytest.fixture
def card() -> ModelCard:
    return ROOMY


@pytest_asyncio.fixture
async def http(start_door: StartDoor, url: str, tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    model = make_toy_model(tmp_path / "model")
    (model / "chat_template.jinja").write_text(LIKE_QWEN3)
    await start_door(model=str(model))
    async with aiohttp.ClientSession(url) as session:
        yield session


def saying(tokenizer: Tokenizer, text: str, finish: Finish = Finish.STOP) -> Script:
    """An answer in the tokens of its text, a row each, and one more that ends it."""
    tokens = tokenizer.encode(text, add_special_tokens=False)

    async def script(downstream: Downstream, generate: Generate) -> None:
        await downstream.admit(generate)
        for index, token in enumerate(tokens):
            await downstream.texts(generate, (index, [token], tokenizer.decode([token]), Finish.NONE, None))
        await downstream.texts(generate, (len(tokens), [2], "", finish, None))

    return script


async def ask(http: aiohttp.ClientSession, **body: Any) -> dict[str, Any]:
    async with http.post(CHAT, json={"messages": HI, **body}) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def deltas(http: aiohttp.ClientSession, **body: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Those of a stream that say something, and its usage."""
    body = {"messages": HI, "stream": True, "stream_options": {"include_usage": True}, **body}
    async with http.post(CHAT, json=body) as response:
        assert response.status == 200, await response.text()
        lines = (await response.text()).split("\n\n")
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    return [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]], chunks[-1]["usage"]


def joined(found: list[dict[str, Any]], name: str) -> str:
    return "".join(delta.get(name) or "" for delta in found)


THOUGHT = "Hm.\nSo <b> it is.\n</think>\n\n"


@pytest.mark.parametrize(
    ("body", "text", "reasoning", "content", "closed_at"),
    [
        (ALWAYS, THOUGHT + "Yes.", "Hm.\nSo <b> it is.", "Yes.", "\n</think>"),
        ({}, "<think>\n" + THOUGHT + "Yes.", "Hm.\nSo <b> it is.", "Yes.", "\n</think>"),
        ({}, "<think>\n\n</think>\n\nYes.", None, "Yes.", "</think>"),
        (NEVER, "Yes </think>.", None, "Yes </think>.", ""),
        ({}, "Yes <think>no</think>.", None, "Yes <think>no</think>.", ""),
        (ALWAYS, "Hm.\n", "Hm.\n", None, None),
        (ALWAYS | {"separate_reasoning": False}, THOUGHT + "Yes.", None, THOUGHT + "Yes.", ""),
        (ALWAYS | {"include_reasoning": False}, THOUGHT + "Yes.", None, "Yes.", "\n</think>"),
        (ALWAYS | {"stream_reasoning": False}, THOUGHT + "Yes.", "Hm.\nSo <b> it is.", "Yes.", "\n</think>"),
    ],
)
async def test_whole_and_streamed(
    http: aiohttp.ClientSession,
    downstream: Downstream,
    toy_tokenizer: Tokenizer,
    body: dict[str, Any],
    text: str,
    reasoning: str | None,
    content: str | None,
    closed_at: str | None,
) -> None:
    """``closed_at``: what the reasoning's tokens end with; None: all of them, the last one too, are reasoning."""
    downstream.script = saying(toy_tokenizer, text)
    answer = await ask(http, **body)
    [choice] = answer["choices"]
    assert choice["message"].get("reasoning_content") == reasoning
    assert choice["message"]["content"] == content
    assert choice["finish_reason"] == "stop"
    counted = answer["usage"]["completion_tokens_details"]["reasoning_tokens"]
    thought = len(toy_tokenizer.encode(text, add_special_tokens=False)) + 1
    if closed_at is not None:
        thought = len(toy_tokenizer.encode(text[: text.find(closed_at) + len(closed_at)], add_special_tokens=False))
    assert counted == thought

    found, usage = await deltas(http, **body)
    assert joined(found, "reasoning_content") == (reasoning or "")
    assert joined(found, "content") == (content or "")
    assert usage["completion_tokens_details"]["reasoning_tokens"] == counted
    order = [name for delta in found for name in delta if name in ("reasoning_content", "content") and delta[name]]
    assert order == sorted(order, reverse=True)
    if body.get("stream_reasoning") is False:
        assert order.count("reasoning_content") == 1


async def test_a_call_after_reasoning(
    http: aiohttp.ClientSession, downstream: Downstream, toy_tokenizer: Tokenizer
) -> None:
    """What looks like one inside of it is reasoning."""
    call = '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'
    downstream.script = saying(toy_tokenizer, f"I could {call}\n</think>\n\n{call}")
    [choice] = (await ask(http, tools=TOOLS, **ALWAYS))["choices"]
    assert choice["message"]["reasoning_content"] == f"I could {call}"
    assert choice["message"]["content"] is None
    assert [each["function"] for each in choice["message"]["tool_calls"]] == [{"name": "get_time", "arguments": "{}"}]
    assert choice["finish_reason"] == "tool_calls"
    found, _ = await deltas(http, tools=TOOLS, **ALWAYS)
    assert joined(found, "reasoning_content") == f"I could {call}"
    calls = [delta["tool_calls"][0] for delta in found if "tool_calls" in delta]
    assert "".join(each["function"]["arguments"] for each in calls) == "{}"


async def test_reasoning_goes_back_to_the_template(
    http: aiohttp.ClientSession, downstream: Downstream, toy_tokenizer: Tokenizer
) -> None:
    """Under either of its names."""
    for name in ("reasoning_content", "reasoning"):
        downstream.generates.clear()
        said = {"role": "assistant", "content": "Yes.", name: "Hm."}
        await ask(http, messages=[*HI, said, *HI])
        [generate] = downstream.generates.values()
        prompt = toy_tokenizer.decode(columns.ints(generate.input_ids), skip_special_tokens=False)
        assert "assistant\n<think>\nHm.\n</think>\n\nYes.<|im_end|>" in prompt


async def test_openais_client_reads_it(
    http: aiohttp.ClientSession, url: str, downstream: Downstream, toy_tokenizer: Tokenizer
) -> None:
    downstream.script = saying(toy_tokenizer, THOUGHT + "Yes.")
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        answer = await client.chat.completions.create(model="toy", messages=HI, extra_body=ALWAYS)
    message: Any = answer.choices[0].message
    assert message.reasoning_content == "Hm.\nSo <b> it is."
    assert message.content == "Yes."


async def test_the_setting_overrules_the_template(
    start_door: StartDoor, url: str, downstream: Downstream, toy_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = make_toy_model(tmp_path / "model")
    (model / "chat_template.jinja").write_text(LIKE_QWEN3)
    await start_door(model=str(model), reasoning_format="none")
    downstream.script = saying(toy_tokenizer, "<think>a</think>b")
    async with aiohttp.ClientSession(url) as http:
        [choice] = (await ask(http))["choices"]
    assert choice["message"]["content"] == "<think>a</think>b"
    assert "reasoning_content" not in choice["message"]


def test_special_tokens_are_shown_where_a_mark_is_one(toy_model: Path) -> None:
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as Backend

    def shows(*special: str, **how: Any) -> bool:
        backend = Backend.from_file(str(toy_model / "tokenizer.json"))
        backend.add_tokens([AddedToken("<tool_call>", special=False), AddedToken("<think>", special=False)])
        backend.add_special_tokens([AddedToken(token, special=True) for token in special])
        tokenizer = Tokenizer(backend, eos_ids=(), special_tokens={}, chat_template=None)
        defaults = {"tokenizer": tokenizer, "tool_format": ToolFormat.HERMES, "reasoning": None}
        engine: Any = SimpleNamespace(**(defaults | how))
        toolbox: Any = SimpleNamespace(needs_grammar=False) if "reasoning" not in how else None
        return not how_read(engine, toolbox).shown(Display()).skip_special_tokens

    assert not shows()
    assert shows("</tool_call>")
    assert not shows(reasoning=MARKS[ReasoningFormat.THINK])
    assert shows("</think>", reasoning=MARKS[ReasoningFormat.THINK])


async def test_special_tokens_are_hidden_where_no_mark_is_one(
    http: aiohttp.ClientSession, downstream: Downstream
) -> None:
    await ask(http, **ALWAYS)
    [track] = downstream.received(Track)
    assert track.skip_special_tokens


@pytest.mark.parametrize(
    ("body", "accepted", "refused"),
    [
        (ALWAYS, ["a{</think>\n\nyes", "</think>no"], ["yes", "<think>a</think>"]),
        ({}, ["yes", "<think>a</think>\nno"], ["a</think>yes", "<think>yes"]),
        (NEVER, ["yes"], ["<think>a</think>yes", "a</think>yes"]),
        (ALWAYS | {"separate_reasoning": False}, ["yes"], ["a</think>yes"]),
    ],
)
async def test_a_grammar_begins_after_reasoning(
    http: aiohttp.ClientSession, downstream: Downstream, body: dict[str, Any], accepted: list[str], refused: list[str]
) -> None:
    await ask(http, choice=["yes", "no"], **body)
    [generate] = downstream.generates.values()
    compiled = await downstream.grammar(generate)
    assert isinstance(compiled, Dfa)
    assert all(tables(compiled).matches(text.encode()) for text in accepted)
    assert not any(tables(compiled).matches(text.encode()) for text in refused)


async def test_bad_words_hold_in_reasoning_and_beside_tools(
    http: aiohttp.ClientSession, downstream: Downstream
) -> None:
    await ask(http, bad_words=["shoot"], tools=TOOLS, **ALWAYS)
    [generate] = downstream.generates.values()
    compiled = await downstream.grammar(generate)
    assert isinstance(compiled, Dfa)
    assert tables(compiled).matches(b"shot</think>\n\nshot")
    assert not tables(compiled).matches(b"a shoot</think>")
    for bad in ([""], ["x" * 65], ["x"] * 65):
        async with http.post(CHAT, json={"messages": HI, "bad_words": bad}) as response:
            assert response.status == 400
            assert (await response.json())["error"]["param"] == "bad_words"
    async with http.post(CHAT, json={"messages": HI, "bad_words": ["x"], "regex": "y"}) as response:
        assert response.status == 400
