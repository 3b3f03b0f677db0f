"""Programs over the whole deployment say what plain requests of OpenAI's API are answered with, word for word."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any, Literal

import msgspec
import openai
import pytest

import rootstream as rs
from benchmarks.programs.counting import Counted
from rootstream.lang.backends.server import Server
from tests.stack import Stack

GREEDY: dict[str, Any] = {"max_tokens": 10, "temperature": 0}


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def counted(stack: Stack) -> Counted:
    return Counted(Server(stack.url))


def completed(client: openai.OpenAI, prompt: str, **more: Any) -> str:
    return client.completions.create(model="toy-llama", prompt=prompt, **GREEDY | more).choices[0].text


def answered(client: openai.OpenAI, messages: list[Any], **more: Any) -> str:
    answer: Any = client.chat.completions.create(model="toy-llama", messages=messages, **GREEDY | more)
    return answer.choices[0].message.content


def test_a_template_with_gaps_is_one_call_and_each_gap_a_completion(client: openai.OpenAI, counted: Counted) -> None:
    @rs.function
    def program(s: rs.State) -> None:
        s += "the quick brown fox" + rs.gen("first", **GREEDY) + " and then" + rs.gen("second", **GREEDY) + " the end"

    state = program.run(backend=counted)
    assert counted.calls == 1
    assert state["first"] == completed(client, "the quick brown fox")
    before = f"the quick brown fox{state['first']} and then"
    assert state["second"] == completed(client, before)
    assert state.text() == f"{before}{state['second']} the end"


def test_a_value_that_is_asked_for_steers_the_program(client: openai.OpenAI, counted: Counted) -> None:
    @rs.function
    def program(s: rs.State) -> str:
        s += "a system reads"
        for turn in range(3):
            s += f" {turn}:" + rs.gen(f"turn {turn}", **GREEDY, stop="e")
            s += f" ({len(s[f'turn {turn}'])})"
        return s.text()

    said = "a system reads"
    for turn in range(3):
        said += f" {turn}:"
        text = completed(client, said, stop="e")
        said += f"{text} ({len(text)})"
    assert program.run(backend=counted).returned == said
    assert counted.calls == 3


def test_forks_go_on_from_what_was_said_and_do_not_see_each_other(client: openai.OpenAI, counted: Counted) -> None:
    words = ("fox", "dog", "forest")

    @rs.function
    def program(s: rs.State) -> None:
        s += "the quick brown" + rs.gen("own", **GREEDY)
        forks = s.fork(len(words))
        for fork, word in zip(forks, words, strict=True):
            fork += f" {word}" + rs.gen("next", **GREEDY)
        forks.join()
        s += " and then" + rs.gen("last", **GREEDY)

    state = program.run(backend=counted)
    stem = f"the quick brown{state['own']}"
    assert state["next"] == [completed(client, f"{stem} {word}") for word in words]
    assert state["last"] == completed(client, f"{stem} and then")
    assert counted.calls == 1 + len(words) + 1
    assert counted.usage.cached_tokens > 0


def test_forks_of_forks(client: openai.OpenAI) -> None:
    @rs.function
    def program(s: rs.State) -> list[list[str]]:
        s += "an animal"
        outer = s.fork(2)
        inner = []
        for number, fork in enumerate(outer):
            fork += f" {number}" + rs.gen("a", **GREEDY)
            inner.append(fork.fork(2))
            for letter, leaf in zip("xy", inner[-1], strict=True):
                leaf += f" {letter}" + rs.gen("b", **GREEDY)
        return [forks["b"] for forks in inner]

    expected = []
    for number in range(2):
        stem = f"an animal {number}"
        stem += completed(client, stem)
        expected.append([completed(client, f"{stem} {letter}") for letter in "xy"])
    assert program.run().returned == expected


def test_a_conversation_is_the_chat_of_the_same_messages(client: openai.OpenAI) -> None:
    @rs.function
    def program(s: rs.State) -> None:
        s += rs.system("short sentences") + rs.user("who are you?")
        s += rs.assistant(rs.gen("first", **GREEDY))
        s += rs.user("and the fox?")
        s += rs.assistant("the fox" + rs.gen("second", **GREEDY))

    state = program.run()
    messages = [{"role": "system", "content": "short sentences"}, {"role": "user", "content": "who are you?"}]
    assert state["first"] == answered(client, messages)
    messages += [{"role": "assistant", "content": state["first"]}, {"role": "user", "content": "and the fox?"}]
    begun = [*messages, {"role": "assistant", "content": "the fox"}]
    go_on = {"continue_final_message": True, "add_generation_prompt": False}
    assert state["second"] == answered(client, begun, extra_body=go_on)
    messages.append({"role": "assistant", "content": f"the fox{state['second']}"})
    assert state.messages() == messages


class Animal(msgspec.Struct):
    name: Literal["fox", "dog"]
    legs: Literal[2, 4]
    fast: bool


def test_forms_hold_and_values_are_read() -> None:
    @rs.function
    def program(s: rs.State) -> None:
        s += "animal: " + rs.gen("animal", json_schema=Animal, temperature=1)
        s += "\ncode: " + rs.gen("code", regex="[A-F]{2}-[0-9]{3}", temperature=1)
        s += "\nage: " + rs.gen("age", regex="[1-9][0-9]", dtype=int, temperature=1)
        s += "\nhouse: " + rs.gen("house", choices=["oak", "birch"], temperature=1)
        s += "\nyes: " + rs.gen("yes", dtype=bool, temperature=1)
        s += "\nthree: " + rs.gen("three", n=3, temperature=1, max_tokens=4)

    state = program.run(seed=5)
    assert isinstance(state["animal"], Animal)
    assert re.fullmatch("[A-F]{2}-[0-9]{3}", state["code"])
    assert 10 <= state["age"] <= 99
    assert state["house"] in {"oak", "birch"}
    assert isinstance(state["yes"], bool)
    assert len(state["three"]) == 3
    assert state.text().endswith(state["three"][0])
    again = program.run(seed=5)
    assert again.text() == state.text()
    assert program.run(seed=6).text() != state.text()


def test_choices_are_weighed_and_the_best_is_said(client: openai.OpenAI, counted: Counted) -> None:
    choices = [" the lazy dog", " forest", " you"]

    @rs.function
    def program(s: rs.State) -> None:
        s += "the fox jumps over" + rs.select("what", choices) + " and" + rs.gen("then", **GREEDY)

    state = program.run(backend=counted)
    assert counted.calls == 1
    result = state.meta("what")
    assert state["what"] == choices[max(range(3), key=result.scores.__getitem__)] == result.text
    assert state["then"] == completed(client, f"the fox jumps over{state['what']} and")


def test_async_bodies_say_the_same_as_plain_ones() -> None:
    @rs.function
    async def program(s: rs.State) -> list[str]:
        s += "the quick brown" + rs.gen("own", **GREEDY)
        assert isinstance(await s.get("own"), str)
        forks = s.fork(2)
        for fork, word in zip(forks, ("fox", "dog"), strict=True):
            fork += f" {word}" + rs.gen("next", **GREEDY)
        await forks.join()
        return [s["own"], *s["next"]]

    @rs.function
    def plain(s: rs.State) -> list[str]:
        s += "the quick brown" + rs.gen("own", **GREEDY)
        forks = s.fork(2)
        for fork, word in zip(forks, ("fox", "dog"), strict=True):
            fork += f" {word}" + rs.gen("next", **GREEDY)
        forks.join()
        return [s["own"], *s["next"]]

    assert program.run().returned == plain.run().returned


def test_a_stream_is_the_text_in_pieces() -> None:
    @rs.function
    def program(s: rs.State) -> None:
        s += "the" + rs.gen("text", max_tokens=24, temperature=0)

    async def watched() -> tuple[list[str], str]:
        state = program.start(stream=True)
        pieces = [piece async for piece in state.stream("text")]
        await state
        return pieces, state["text"]

    pieces, text = asyncio.run(watched())
    assert "".join(pieces) == text == program.run()["text"]
    assert len(pieces) > 1


def test_a_tool_is_called_and_its_result_is_said() -> None:
    asked: list[str] = []

    def weather(city: Literal["oslo", "rome"]) -> str:
        """The weather in a city."""
        asked.append(city)
        return "sunny"

    @rs.function
    def program(s: rs.State) -> str:
        s += rs.tools([weather])
        s += rs.user("is it sunny?")
        s += rs.assistant(rs.gen("call", max_tokens=200, tool_choice="required", temperature=0))
        (call,) = s.tool_calls("call")
        s += rs.tool_result(call, call.run())
        s += rs.assistant(rs.gen("answer", **GREEDY))
        return s["answer"]

    state = program.run()
    assert asked[0] in {"oslo", "rome"}
    assert [message["role"] for message in state.messages()] == ["user", "assistant", "tool", "assistant"]
    assert state.messages()[2]["content"] == "sunny"
