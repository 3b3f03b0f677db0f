"""Servers of OpenAI's API as backend: what is sent, what is read, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from rootstream.lang.backends.openai import OpenAI
from rootstream.lang.backends.server import Server
from rootstream.lang.calls import Call, CallError, Unsupported
from rootstream.lang.parts import Close, Gen, Message, Open, Part, Select, Text
from tests.rootstream.lang import toy_model
from tests.rootstream.lang.toy_server import Cut, Refusal, ToyServer, serving


@pytest.fixture
def toy() -> ToyServer:
    return ToyServer()


@pytest_asyncio.fixture
async def url(toy: ToyServer) -> AsyncIterator[str]:
    async with serving(toy) as url:
        yield url


def call(*parts: Part | str, **fields: Any) -> Call:
    whole = tuple(Text(part) if isinstance(part, str) else part for part in parts)
    return Call(id="c", parts=whole, **fields)


async def run(url: str, made: Call, on_piece: Any = None, *, dialect: str = "rootstream") -> tuple[str, ...]:
    backend = OpenAI(url, dialect=dialect, patience=2)
    try:
        return tuple(result.text for result in (await backend.run(made, on_piece)).results)
    finally:
        await backend.close()


USER = (Open("user"), Text("What is it?"), Close())
PROGRAMS: dict[str, tuple[Part, ...]] = {
    "raw": (Text("Once"), Gen(name="a", max_tokens=4), Text(" and"), Gen(name="b", max_tokens=2, stop=(" oak",))),
    "chat": (*USER, Open("assistant"), Gen(name="a", max_tokens=5), Close(), *USER, Open("assistant"), Gen(name="b")),
    "prefix": (*USER, Open("assistant"), Text("It is"), Gen(name="a"), Text(". And"), Gen(name="b"), Close()),
    "several": (Text("Draw"), Gen(name="a", n=3, temperature=1.0, seed=7, max_tokens=3), Text("!"), Gen(name="b")),
    "choices": (Text("Pick"), Gen(name="a", choices=("x", "y", "z")), Text("."), Gen(name="b")),
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_same_texts_as_from_our_server(program: str, stream: bool, url: str) -> None:
    parts = PROGRAMS[program]
    ours = Server(url)
    expected = await ours.run(call(*parts))
    await ours.close()
    told: dict[int, str] = {}

    def on_piece(part: int, text: str) -> None:
        told[part] = told.get(part, "") + text

    backend = OpenAI(url, dialect="rootstream")
    found = await backend.run(call(*parts, stream=stream), on_piece)
    await backend.close()
    assert [(result.name, result.part, result.text, result.texts) for result in found.results] == [
        (result.name, result.part, result.text, result.texts) for result in expected.results
    ]
    assert told == ({result.part: result.text for result in found.results} if stream else {})
    assert found.usage.completion_tokens == expected.usage.completion_tokens


async def test_the_history_is_sent_whole(url: str, toy: ToyServer) -> None:
    made = call(" there", Gen(name="x"), parent="p", history=lambda: (Text("Once upon"), Text(" a time")))
    (text,) = await run(url, made)
    assert toy.bodies[0]["prompt"] == "Once upon a time there"
    assert text == toy_model.generate("Once upon a time there", {}).text


async def test_messages_are_sent_as_chats_have_them(url: str, toy: ToyServer) -> None:
    result = Message({"role": "tool", "tool_call_id": "1", "content": "42"})
    tools = ({"type": "function", "function": {"name": "f"}},)
    await run(
        url, call(Open("system"), "Be good.", Close(), *USER, result, Open("assistant"), Gen(name="x"), tools=tools)
    )
    (body,) = toy.of("/v1/chat/completions")
    assert body["messages"] == [
        {"role": "system", "content": "Be good."},
        {"role": "user", "content": "What is it?"},
        {"role": "tool", "tool_call_id": "1", "content": "42"},
    ]
    assert body["tools"] == list(tools)


async def test_nothing_is_asked_for_what_generates_nothing(toy: ToyServer, url: str) -> None:
    assert await run(url, call("warm this", prefill=True)) == ()
    assert toy.bodies == []


FIELDS = Gen(
    name="x",
    max_tokens=3,
    temperature=0.5,
    top_p=0.9,
    frequency_penalty=0.1,
    presence_penalty=0.2,
    seed=1,
    stop=("a", "b"),
    logit_bias={"5": 1.0},
    n=2,
)


async def test_fields_of_the_api_are_sent_to_all(url: str, toy: ToyServer) -> None:
    await run(url, call("Go", FIELDS), dialect="unknown")
    del toy.bodies[0]["path"], toy.bodies[0]["model"]
    assert toy.bodies[0] == {
        "prompt": "Go",
        "max_tokens": 3,
        "temperature": 0.5,
        "top_p": 0.9,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "seed": 1,
        "stop": ["a", "b"],
        "logit_bias": {"5": 1.0},
        "n": 2,
    }


REFUSED: dict[str, tuple[Part | str, ...]] = {
    "regular expressions": ("Go", Gen(name="x", regex="a+")),
    "grammars": ("Go", Gen(name="x", grammar="start: 'a'")),
    "choices outside of chats": ("Go", Gen(name="x", choices=("a", "b"))),
    "JSON of a schema outside of chats": ("Go", Gen(name="x", json_schema={"type": "object"})),
    "top_k": ("Go", Gen(name="x", top_k=3)),
    "min_p": ("Go", Gen(name="x", min_p=0.1)),
    "ignore_eos": ("Go", Gen(name="x", ignore_eos=True)),
    "stop_token_ids": ("Go", Gen(name="x", stop_token_ids=(1,))),
    "going on with what the assistant has said": (*USER, Open("assistant"), "It is", Gen(name="x")),
    "select": ("Go", Select(name="x", choices=("a", "b"))),
    "select in a chat": (*USER, Open("assistant"), Select(name="x", choices=("a", "b"))),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_a_server_is_not_known_to_do_is_refused(what: str, url: str, toy: ToyServer) -> None:
    with pytest.raises(Unsupported, match=f"'x': a server of unknown kind is not known to do {what}"):
        await run(url, call(*REFUSED[what]), dialect="unknown")
    assert toy.bodies == []


STRUCTURES: dict[str, dict[str, Any]] = {
    "rootstream": {"regex": "a+"},
    "vllm": {"structured_outputs": {"regex": "a+"}},
    "sglang": {"regex": "a+"},
}


@pytest.mark.parametrize("dialect", STRUCTURES)
async def test_servers_are_asked_in_their_dialect(dialect: str, url: str, toy: ToyServer) -> None:
    await run(url, call("Go", Gen(name="x", regex="a+", top_k=2, max_tokens=1)), dialect=dialect)
    assert toy.bodies[0].items() >= {**STRUCTURES[dialect], "top_k": 2}.items()


async def test_choices_are_literal_in_patterns_and_grammars(url: str, toy: ToyServer) -> None:
    gen = Gen(name="x", choices=('a "b"', "c.d|e"), max_tokens=1)
    await run(url, call("Go", gen), dialect="sglang")
    await run(url, call("Go", gen), dialect="llama.cpp")
    assert toy.bodies[0]["regex"] == r'(a "b")|(c\.d\|e)'
    assert toy.bodies[1]["grammar"] == r'root ::= "a \"b\"" | "c.d|e"'


async def test_choices_in_a_chat_are_wrapped_in_json_where_that_is_all_there_is(url: str, toy: ToyServer) -> None:
    made = call(*USER, Open("assistant"), Gen(name="x", choices=("yes", "no")), Close())
    assert await run(url, made, dialect="unknown") == ("yes",)
    schema = toy.bodies[0]["response_format"]["json_schema"]["schema"]
    assert schema["properties"] == {"choice": {"type": "string", "enum": ["yes", "no"]}}


async def test_schemas_are_made_strict_for_openai_alone(url: str, toy: ToyServer) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer", "default": 1}, "b": {"$ref": "#/$defs/B"}},
        "$defs": {"B": {"type": "object", "properties": {"default": {"type": "string"}}}},
    }
    made = call(*USER, Open("assistant"), Gen(name="x", json_schema=schema, max_tokens=5))
    for dialect in ("vllm", "openai"):
        await run(url, made, dialect=dialect)
    vllm, openai = (body["response_format"]["json_schema"]["schema"] for body in toy.bodies)
    assert vllm == schema
    assert openai["additionalProperties"] is False
    assert openai["required"] == ["a", "b"]
    assert openai["properties"]["a"] == {"type": "integer"}
    assert openai["$defs"]["B"]["required"] == ["default"]
    assert toy.bodies[1]["max_completion_tokens"] == 5
    assert toy.bodies[0]["max_tokens"] == 5


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((*USER, Gen(name="x")), "'x' stands between messages"),
        ((Open("user"), Gen(name="x")), "the user's message"),
        ((*USER, Text("loose"), Gen(name="x")), "outside messages"),
        ((*USER, Open("assistant"), Gen(name="x"), Close(), Gen(name="y")), "'y' stands between"),
    ],
)
async def test_what_makes_no_sense_says_why(parts: tuple[Part, ...], message: str, url: str) -> None:
    with pytest.raises(CallError, match=message):
        await run(url, call(*parts))


async def test_select_scores_the_tokens_that_the_choice_adds(url: str, toy: ToyServer) -> None:
    choices = ("ax", "ay", "b")
    backend = OpenAI(url, dialect="vllm")
    outcome = await backend.run(call("Say ", Select(name="x", choices=choices), ".", Gen(name="y", max_tokens=2)))
    await backend.close()
    chosen, drawn = outcome.results
    assert toy.bodies[0]["prompt"] == ["Say ", "Say ax", "Say ay", "Say b"]

    def mean(choice: str) -> float:
        values = [toy_model.scores(f"Say {choice[:end]}", [choice[end]])[0] for end in range(len(choice))]
        return sum(values) / len(values)

    assert chosen.scores == pytest.approx([mean(choice) for choice in choices])
    assert chosen.text == choices[chosen.index or 0] == max(choices, key=mean)
    assert drawn.text == toy_model.generate(f"Say {chosen.text}.", {"max_tokens": 2}).text


async def test_a_server_that_echoes_no_scores_is_explained(url: str, toy: ToyServer) -> None:
    toy.faults.append(Refusal(400, message="echo is not supported"))
    with pytest.raises(CallError, match="echo is not supported"):
        await run(url, call("Say ", Select(name="x", choices=("a", "b"))), dialect="vllm")


async def test_whole_answers_are_asked_for_again_and_streams_until_something_came(url: str, toy: ToyServer) -> None:
    toy.faults += [Cut(5), Refusal(503, {"Retry-After": "0"})]
    assert await run(url, call("Go", Gen(name="x"))) == (toy_model.generate("Go", {}).text,)
    told: list[str] = []
    streamed = call("Go", Gen(name="x"), stream=True)
    toy.faults += [Cut(60)]
    await run(url, streamed, lambda _, text: told.append(text))
    assert "".join(told) == toy_model.generate("Go", {}).text
    told.clear()
    toy.faults += [Cut(400)]
    with pytest.raises(CallError, match="cut"):
        await run(url, streamed, lambda _, text: told.append(text))
    assert told


async def test_the_model_and_the_dialect_come_from_the_server(url: str, toy: ToyServer) -> None:
    backend = OpenAI(url)
    await asyncio.gather(*(backend.run(call("Go", Gen(name="x"))) for _ in range(5)))
    assert {body["model"] for body in toy.bodies} == {"toy"}
    with pytest.raises(Unsupported, match="unknown kind"):
        await backend.run(call("Go", Gen(name="x", regex="a")))
    await backend.close()
    toy.owner = "vllm"
    other = OpenAI(url, model="named")
    await other.run(call("Go", Gen(name="x", regex="a")))
    await other.close()
    assert toy.bodies[-1]["model"] == "named"
    assert "structured_outputs" in toy.bodies[-1]


async def test_a_call_out_of_time(url: str, toy: ToyServer) -> None:
    toy.delay = 30
    with pytest.raises(CallError, match=r"within 0\.1 s") as raised:
        await run(url, call("Go", Gen(name="x"), timeout=0.1))
    assert raised.value.code == "timeout"


def test_a_dialect_that_nobody_speaks() -> None:
    with pytest.raises(ValueError, match="'vllm'"):
        OpenAI("http://127.0.0.1:1", dialect="klingon")
