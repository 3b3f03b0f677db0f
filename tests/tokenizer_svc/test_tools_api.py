"""Tools over real HTTP: what the model is told, and its calls as bytes and as OpenAI's own client reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import aiohttp
import openai
import pytest
from pydantic import BaseModel

from shared import columns
from shared.grammar import Dfa, tables
from shared.protocol import Finish, Generate, ModelCard, Track
from shared.tokenizer import Tokenizer
from tests.tokenizer_svc.downstream import ROOMY, Downstream, Script, obedient
from tests.tokenizer_svc.tools.templates import LIKE_LLAMA3

CHAT = "/v1/chat/completions"
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: Any = [
    {"type": "function", "function": {"name": "get_weather", "description": "Looks outside.", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "get_time"}},
]


class Weather(BaseModel):
    """Looks outside."""

    city: str


class Sky(BaseModel):
    """What is up."""

    sky: str


ASKED: Any = [{"role": "user", "content": "How is the weather in Köln?"}]
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln"}}\n</tool_call>'


@pytest.fixture
def card() -> ModelCard:
    return ROOMY


def saying(*texts: str, finish: Finish = Finish.STOP) -> Script:
    """An answer of one token per text, and one more that ends it; where there is a grammar it waits for that."""

    async def script(downstream: Downstream, generate: Generate) -> None:
        await downstream.admit(generate)
        if generate.sampling.grammar is not None:
            await downstream.grammar(generate)
        for index, text in enumerate(texts):
            await downstream.texts(generate, (index, [10], text, Finish.NONE, None))
        await downstream.texts(generate, (len(texts), [2], "", finish, None))

    return script


def in_pieces(text: str, size: int = 5) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def prompt_of(downstream: Downstream, tokenizer: Tokenizer) -> str:
    [generate] = downstream.generates.values()
    return tokenizer.decode(columns.as_int32(generate.input_ids).tolist(), skip_special_tokens=False)


async def post(http: aiohttp.ClientSession, **body: Any) -> dict[str, Any]:
    async with http.post(CHAT, json={"messages": ASKED, "tools": TOOLS, **body}) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def deltas(http: aiohttp.ClientSession, **body: Any) -> list[tuple[int, dict[str, Any], str | None]]:
    """(choice, delta, finish_reason) of every chunk."""
    async with http.post(CHAT, json={"messages": ASKED, "tools": TOOLS, "stream": True, **body}) as response:
        assert response.status == 200, await response.text()
        lines = (await response.text()).split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    choices = [json.loads(line[6:])["choices"][0] for line in lines[:-2]]
    return [(choice["index"], choice["delta"], choice["finish_reason"]) for choice in choices]


async def test_a_call_as_a_whole(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    downstream.script = saying(*in_pieces(CALL))
    [choice] = (await post(http))["choices"]
    [call] = choice["message"]["tool_calls"]
    [generate] = downstream.generates.values()
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [
            {
                "id": f"call_{generate.id:016x}_0",
                "type": "function",
                "function": {"name": "get_weather", "arguments": '{"city": "Köln"}'},
            }
        ],
    }
    assert choice["finish_reason"] == "tool_calls"
    assert json.loads(call["function"]["arguments"]) == {"city": "Köln"}


async def test_the_deltas_of_a_call(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    downstream.script = saying(
        "Let me see. <tool", '_call>\n{"name": "get_w', 'eather", "arguments": {"ci', 'ty": "Köln"}}', "\n</tool_call>"
    )
    found = await deltas(http)
    [generate] = downstream.generates.values()
    head = {"index": 0, "id": f"call_{generate.id:016x}_0", "type": "function"}
    assert found == [
        (0, {"role": "assistant", "content": "", "refusal": None}, None),
        (0, {"content": "Let me see. "}, None),
        (0, {"tool_calls": [{**head, "function": {"arguments": "", "name": "get_weather"}}]}, None),
        (0, {"tool_calls": [{"index": 0, "function": {"arguments": '{"ci'}}]}, None),
        (0, {"tool_calls": [{"index": 0, "function": {"arguments": 'ty": "Köln"}'}}]}, None),
        (0, {}, "tool_calls"),
    ]


async def test_several_calls_and_several_choices(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    other = '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'
    downstream.script = saying(*in_pieces(f"{CALL}\n{other}"))
    answer = await post(http, n=2)
    ids: set[str] = set()
    for choice in answer["choices"]:
        calls = choice["message"]["tool_calls"]
        assert [call["function"]["name"] for call in calls] == ["get_weather", "get_time"]
        assert choice["finish_reason"] == "tool_calls"
        ids |= {call["id"] for call in calls}
    assert len(ids) == 4
    assert answer["usage"]["completion_tokens"] == 2 * (len(in_pieces(f"{CALL}\n{other}")) + 1)

    found = await deltas(http, n=2)
    for choice in (0, 1):
        calls = [delta["tool_calls"][0] for index, delta, _ in found if index == choice and "tool_calls" in delta]
        assert [call["function"]["name"] for call in calls if "id" in call] == ["get_weather", "get_time"]
        assert "".join(call["function"]["arguments"] for call in calls if call["index"] == 1) == "{}"


@pytest.mark.parametrize(
    ("texts", "finish", "content", "arguments", "reason"),
    [
        (["Hello", " there"], Finish.STOP, "Hello there", [], "stop"),
        (["Hello"], Finish.LENGTH, "Hello", [], "length"),
        ([], Finish.STOP, "", [], "stop"),
        ([CALL[:-18]], Finish.LENGTH, None, ['{"city": "Kö'], "length"),
        ([CALL[:-18]], Finish.STOP, None, ['{"city": "Kö'], "length"),
        ([CALL], Finish.LENGTH, None, ['{"city": "Köln"}'], "length"),
        ([CALL[:-13]], Finish.STOP, None, ['{"city": "Köln"}'], "tool_calls"),
        ([CALL[:30]], Finish.LENGTH, CALL[:30], [], "length"),
        ([CALL.replace("get_weather", "rm")], Finish.STOP, CALL.replace("get_weather", "rm"), [], "stop"),
        (["It rains. " + CALL], Finish.STOP, "It rains. ", ['{"city": "Köln"}'], "tool_calls"),
    ],
)
async def test_what_an_answer_amounts_to(
    http: aiohttp.ClientSession,
    downstream: Downstream,
    texts: Sequence[str],
    finish: Finish,
    content: str | None,
    arguments: list[str],
    reason: str,
) -> None:
    """The same whether it is a stream or not."""
    downstream.script = saying(*texts, finish=finish)
    [choice] = (await post(http))["choices"]
    message = choice["message"]
    assert message["content"] == content
    assert [call["function"]["arguments"] for call in message.get("tool_calls", [])] == arguments
    assert choice["finish_reason"] == reason
    assert ("tool_calls" in message) == bool(arguments)

    found = await deltas(http)
    assert "".join(delta.get("content", "") for _, delta, _ in found) == (content or "")
    assert found[-1][1:] == ({}, reason)
    calls = [delta["tool_calls"][0] for _, delta, _ in found if "tool_calls" in delta]
    assert "".join(call["function"]["arguments"] for call in calls) == "".join(arguments)


async def test_without_tools_nothing_is_read(
    http: aiohttp.ClientSession, downstream: Downstream, toy_tokenizer: Tokenizer
) -> None:
    downstream.script = saying(CALL)
    for body in ({"tools": None}, {"tools": []}, {"tool_choice": "none"}):
        downstream.generates.clear()
        [choice] = (await post(http, **body))["choices"]
        assert choice["message"] == {"role": "assistant", "content": CALL, "refusal": None}
        assert choice["finish_reason"] == "stop"
        assert "get_weather" not in prompt_of(downstream, toy_tokenizer)


async def test_the_model_is_told_of_its_tools(
    http: aiohttp.ClientSession, downstream: Downstream, toy_tokenizer: Tokenizer
) -> None:
    await post(http)
    prompt = prompt_of(downstream, toy_tokenizer)
    assert prompt.startswith("<|im_start|>system\nYou can call functions.")
    assert '{"name": "get_weather", "description": "Looks outside.", "parameters": ' in prompt
    assert prompt.endswith("<|im_start|>user\nHow is the weather in Köln?<|im_end|>\n<|im_start|>assistant\n")


async def test_the_other_format(start_door: Any, url: str, downstream: Downstream, toy_tokenizer: Tokenizer) -> None:
    await start_door(tool_format="llama3-json")
    downstream.script = saying(
        *in_pieces('{"name": "get_time", "parameters": {}}; {"name": "get_time", "parameters": {}}')
    )
    async with aiohttp.ClientSession(url) as http:
        [choice] = (await post(http))["choices"]
    assert '"parameters": {<its arguments>}}' in prompt_of(downstream, toy_tokenizer)
    assert [call["function"] for call in choice["message"]["tool_calls"]] == [
        {"name": "get_time", "arguments": "{}"}
    ] * 2
    assert choice["finish_reason"] == "tool_calls"


async def test_a_template_decides_on_the_format(
    start_door: Any, url: str, downstream: Downstream, tmp_path: Any
) -> None:
    from tests.toy import make_toy_model

    model = make_toy_model(tmp_path / "model")
    (model / "chat_template.jinja").write_text(LIKE_LLAMA3)
    await start_door(model=str(model))
    downstream.script = saying('{"name": "get_time", "parameters": {}}')
    async with aiohttp.ClientSession(url) as http:
        [choice] = (await post(http))["choices"]
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "get_time"


async def test_openais_client_calls_and_answers(
    client: openai.AsyncOpenAI, downstream: Downstream, toy_tokenizer: Tokenizer
) -> None:
    """Two turns: a call, and an answer to its result."""
    downstream.script = saying(*in_pieces(CALL))
    first = await client.chat.completions.create(model="toy", messages=ASKED, tools=TOOLS, tool_choice="auto")
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    assert message.content is None
    assert message.tool_calls is not None
    [call] = message.tool_calls
    assert call.type == "function"
    assert json.loads(call.function.arguments) == {"city": "Köln"}

    downstream.generates.clear()
    downstream.script = saying("It rains.")
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": [{"type": "text", "text": '{"sky": "rain"}'}]}
    turns: Any = [*ASKED, message.model_dump(exclude_none=True), result]
    second = await client.chat.completions.create(model="toy", messages=turns, tools=TOOLS)
    assert second.choices[0].message.content == "It rains."
    assert second.choices[0].message.tool_calls is None
    assert second.choices[0].finish_reason == "stop"
    assert prompt_of(downstream, toy_tokenizer).endswith(
        f"<|im_start|>assistant\n{CALL}<|im_end|>\n"
        '<|im_start|>user\n<tool_response>\n{"sky": "rain"}\n</tool_response><|im_end|>\n'
        "<|im_start|>assistant\n"
    )


async def test_openais_client_accumulates_a_stream(client: openai.AsyncOpenAI, downstream: Downstream) -> None:
    downstream.script = saying(*in_pieces(f"{CALL}\n{CALL}", 3))
    async with client.chat.completions.stream(model="toy", messages=ASKED, tools=TOOLS) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    [choice] = final.choices
    assert choice.finish_reason == "tool_calls"
    assert not choice.message.content
    assert choice.message.tool_calls is not None
    assert [(call.function.name, call.function.arguments) for call in choice.message.tool_calls] == [
        ("get_weather", '{"city": "Köln"}')
    ] * 2


async def test_stop_strings_and_special_tokens_are_as_asked(
    http: aiohttp.ClientSession, downstream: Downstream
) -> None:
    await post(http, stop=["END"])
    [track] = downstream.received(Track)
    assert track.stop == ("END",)
    assert track.skip_special_tokens


async def test_variables_of_templates_may_have_any_name(http: aiohttp.ClientSession) -> None:
    names = dict.fromkeys(("self", "engine", "turns", "toolbox", "template", "source"), 1)
    for tools in (TOOLS, None):
        await post(http, tools=tools, chat_template_kwargs=names)


REFUSED: list[tuple[dict[str, Any], str, str | None]] = [
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", None),
    ({"tools": "x"}, "tools", "invalid_type"),
    ({"tool_choice": "sometimes"}, "tool_choice", None),
    ({"parallel_tool_calls": "no"}, "parallel_tool_calls", "invalid_type"),
    ({"functions": [{"name": "f"}]}, "functions", "unsupported_parameter"),
    ({"function_call": "auto"}, "function_call", "unsupported_parameter"),
    ({"messages": [{"role": "tool"}]}, "messages[0].content", None),
    ({"messages": [{"role": "tool", "content": "x", "tool_call_id": 1}]}, "messages[0].tool_call_id", "invalid_type"),
    ({"messages": [{"role": "user", "content": "x", "tool_call_id": "a"}]}, "messages[0].tool_call_id", None),
    ({"messages": [{"role": "user", "content": "x", "tool_calls": [{}]}]}, "messages[0].tool_calls", None),
    ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0].tool_calls[0].id", "missing_field"),
    ({"chat_template_kwargs": {"tools": []}}, "chat_template_kwargs.tools", None),
]


@pytest.mark.parametrize(("body", "param", "code"), REFUSED)
async def test_what_is_refused(
    http: aiohttp.ClientSession, downstream: Downstream, body: dict[str, Any], param: str, code: str | None
) -> None:
    async with http.post(CHAT, json={"messages": ASKED, "tools": TOOLS, **body}) as response:
        assert response.status == 400
        error = (await response.json())["error"]
    assert (error["param"], error["code"]) == (param, code)
    assert not downstream.generates


async def grammar_of(downstream: Downstream) -> Dfa:
    """What the worker finds under the key that it is told."""
    [generate] = downstream.generates.values()
    compiled = await downstream.grammar(generate)
    assert isinstance(compiled, Dfa)
    return compiled


STRICT: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER, "strict": True}}]


@pytest.mark.parametrize(
    ("body", "accepted"),
    [
        ({"tool_choice": "required"}, [CALL, f"{CALL}\n{CALL}"]),
        ({"tool_choice": "required", "parallel_tool_calls": False}, [CALL]),
        ({"tool_choice": TOOLS[0]}, [CALL]),
        ({"tools": STRICT}, [CALL, f"{CALL}\n{CALL}", "It rains.", f"Hm. {CALL}"]),
        ({"parallel_tool_calls": False}, [CALL, "It rains.", f"Hm. {CALL}"]),
    ],
)
async def test_promises_are_kept_by_a_grammar(
    http: aiohttp.ClientSession, downstream: Downstream, body: dict[str, Any], accepted: list[str]
) -> None:
    downstream.script = saying(*in_pieces(CALL))
    [choice] = (await post(http, **body))["choices"]
    assert choice["finish_reason"] == "tool_calls"
    automaton = tables(await grammar_of(downstream))
    texts = [
        CALL,
        f"{CALL}\n{CALL}",
        "It rains.",
        f"Hm. {CALL}",
        CALL.replace('"Köln"', "7"),
        CALL.replace("city", "town"),
    ]
    assert [text for text in texts if automaton.matches(text.encode())] == accepted


async def test_without_promises_there_is_no_grammar(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    await post(http)
    [generate] = downstream.generates.values()
    assert generate.sampling.grammar is None


async def test_a_schema_that_cannot_be_obeyed_is_named(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    downstream.script = obedient
    bad = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "strong"}}}}}
    body = {"messages": ASKED, "tools": [*TOOLS, bad], "tool_choice": "required"}
    async with http.post(CHAT, json=body) as response:
        assert response.status == 400
        error = (await response.json())["error"]
    assert (error["param"], error["code"]) == ("tools", "invalid_grammar")
    assert "the parameters of the tool 'f': type at #/properties/a" in error["message"]


SKY = {
    "type": "object",
    "properties": {"sky": {"type": "string"}},
    "required": ["sky"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "sky", "schema": SKY, "strict": True}}
TOLD = '{"sky": "<tool_call> rain"}'


@pytest.mark.parametrize(
    ("body", "accepted"),
    [
        ({}, [CALL, f"{CALL}\n{CALL}", TOLD]),
        ({"parallel_tool_calls": False}, [CALL, TOLD]),
        ({"tool_choice": "required"}, [CALL, f"{CALL}\n{CALL}"]),
        ({"tool_choice": TOOLS[0]}, [CALL]),
        ({"tool_choice": "none"}, [TOLD]),
    ],
)
async def test_a_form_beside_tools(
    http: aiohttp.ClientSession, downstream: Downstream, body: dict[str, Any], accepted: list[str]
) -> None:
    said = CALL if CALL in accepted else TOLD
    downstream.script = saying(*in_pieces(said))
    [choice] = (await post(http, response_format=FORM, **body))["choices"]
    assert choice["finish_reason"] == ("tool_calls" if said == CALL else "stop")
    automaton = tables(await grammar_of(downstream))
    texts = [CALL, f"{CALL}\n{CALL}", TOLD, "It rains.", f"Hm. {CALL}", TOLD + CALL, CALL.replace("city", "town"), "{}"]
    assert [text for text in texts if automaton.matches(text.encode())] == accepted


async def test_what_has_the_form_is_no_call_whatever_is_in_it(
    http: aiohttp.ClientSession, downstream: Downstream
) -> None:
    """Pieces come at once, and the same as a whole."""
    told = json.dumps({"sky": CALL}, ensure_ascii=False)
    downstream.script = saying(*in_pieces(told))
    [choice] = (await post(http, response_format=FORM))["choices"]
    assert choice["message"] == {"role": "assistant", "content": told, "refusal": None}
    assert choice["finish_reason"] == "stop"
    found = await deltas(http, response_format=FORM)
    assert [delta["content"] for _, delta, _ in found if delta.get("content")] == in_pieces(told)


async def test_openais_client_parses_a_form_beside_tools(client: openai.AsyncOpenAI, downstream: Downstream) -> None:
    strict: Any = [openai.pydantic_function_tool(Weather, name="get_weather")]
    asked: Any = {"model": "toy", "messages": ASKED, "tools": strict, "response_format": Sky}
    downstream.script = saying(*in_pieces(CALL))
    message = (await client.chat.completions.parse(**asked)).choices[0].message
    assert message.parsed is None
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.parsed_arguments == Weather(city="Köln")
    downstream.script = saying(*in_pieces(TOLD))
    async with client.chat.completions.stream(**asked) as stream:
        async for _ in stream:
            pass
        parsed = (await stream.get_final_completion()).choices[0].message
    assert parsed.parsed == Sky(sky="<tool_call> rain")
    assert not parsed.tool_calls


async def test_a_form_that_may_be_a_call_is_refused(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    downstream.script = obedient
    body = {"messages": ASKED, "tools": TOOLS, "regex": "[^!]*"}
    async with http.post(CHAT, json=body) as response:
        assert response.status == 400
        error = (await response.json())["error"]
    assert (error["param"], error["code"]) == ("regex", "invalid_grammar")
    assert "as a call of a tool does" in error["message"]
