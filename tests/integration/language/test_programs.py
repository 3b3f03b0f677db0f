"""Programs over the whole deployment: each generation is what a plain completion of the same tokens says.

What is drawn obeys `[a-z ]{8}`, so that tokens and text are the same thing; a toy model would write half characters.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import openai
import pytest
from tokenizers import Tokenizer

import rootstream as rs
from rootstream.lang.backends.server import Server
from tests.stack import Stack

GREEDY: dict[str, Any] = {"max_tokens": 10, "temperature": 0}
FORM = "[a-z ]{8}"


def gen(name: str) -> rs.Parts:
    return rs.gen(name, regex=FORM, temperature=0)


class Heard:
    """All answers of the server, and what plain completions make of the same prompts."""

    def __init__(self, stack: Stack, tokenizer: Tokenizer, client: openai.OpenAI) -> None:
        self.server = Server(stack.url, extra={"return_token_ids": True}, on_answer=self._heard)
        self.answers: list[dict[str, Any]] = []
        self._tokenizer = tokenizer
        self._client = client

    def _heard(self, _body: bytes, answer: bytes) -> None:
        found = msgspec.json.decode(answer)
        if found["parts"]:
            self.answers.append(found)

    def texts(self) -> dict[str, str]:
        """The prompt of each generation to its text, once a plain completion has said the same."""
        found: dict[str, str] = {}
        for answer in self.answers:
            for part in answer["parts"]:
                ids = answer["token_ids"][: part["prompt_tokens"]]
                plain = self._client.completions.create(
                    model="toy-llama", prompt=ids, temperature=0, max_tokens=50, extra_body={"regex": FORM}
                )
                assert plain.choices[0].text == part["text"]
                found[self._tokenizer.decode(ids, skip_special_tokens=False)] = part["text"]
        return found


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def heard(stack: Stack, toy_model: Path, client: openai.OpenAI) -> Heard:
    return Heard(stack, Tokenizer.from_file(str(toy_model / "tokenizer.json")), client)


def test_a_template_with_gaps_is_one_call(heard: Heard) -> None:
    @rs.function
    def program(s: rs.State) -> None:
        s += "the quick brown fox" + gen("first") + " and then" + gen("second") + " the end"

    state = program.run(backend=heard.server)
    assert len(heard.answers) == 1
    before = f"the quick brown fox{state['first']} and then"
    assert heard.texts() == {"the quick brown fox": state["first"], before: state["second"]}
    assert state.text() == f"{before}{state['second']} the end"


def test_a_value_that_is_asked_for_steers_the_program(heard: Heard) -> None:
    @rs.function
    def program(s: rs.State) -> None:
        s += "a system reads"
        for turn in range(3):
            s += f" {turn}:" + gen(f"turn {turn}")
            s += f" ({s[f'turn {turn}'].count('e')})"

    state = program.run(backend=heard.server)
    said, expected = "a system reads", {}
    for turn in range(3):
        said += f" {turn}:"
        text = expected[said] = state[f"turn {turn}"]
        said += f"{text} ({text.count('e')})"
    assert state.text() == said
    assert heard.texts() == expected
    assert len(heard.answers) == 3


def test_forks_go_on_from_what_was_said_and_do_not_see_each_other(heard: Heard) -> None:
    words = ("fox", "dog", "forest")

    @rs.function
    def program(s: rs.State) -> None:
        s += "the quick brown" + gen("own")
        forks = s.fork(len(words))
        for fork, word in zip(forks, words, strict=True):
            fork += f" {word}" + gen("next")
        forks.join()
        s += " and then" + gen("last")

    state = program.run(backend=heard.server)
    stem = f"the quick brown{state['own']}"
    expected = {f"{stem} {word}": text for word, text in zip(words, state["next"], strict=True)}
    assert heard.texts() == {"the quick brown": state["own"], **expected, f"{stem} and then": state["last"]}
    assert len(heard.answers) == 1 + len(words) + 1
    assert state.usage.cached_tokens > 0


def test_forks_of_forks(heard: Heard) -> None:
    @rs.function
    def program(s: rs.State) -> list[tuple[str, list[str]]]:
        s += "an animal"
        inner: list[tuple[rs.State, rs.Forks]] = []
        for number, fork in enumerate(s.fork(2)):
            fork += f" {number}" + gen("a")
            inner.append((fork, fork.fork(2)))
            for letter, leaf in zip("xy", inner[-1][1], strict=True):
                leaf += f" {letter}" + gen("b")
        return [(fork["a"], forks["b"]) for fork, forks in inner]

    found = program.run(backend=heard.server).returned
    expected: dict[str, str] = {}
    for number, (a, (x, y)) in enumerate(found):
        stem = f"an animal {number}{a}"
        expected |= {f"an animal {number}": a, f"{stem} x": x, f"{stem} y": y}
    assert heard.texts() == expected


def test_a_conversation_is_what_the_template_makes_of_it(heard: Heard) -> None:
    @rs.function
    def program(s: rs.State) -> None:
        s += rs.system("short sentences") + rs.user("who are you?")
        s += rs.assistant(gen("first"))
        s += rs.user("and the fox?")
        s += rs.assistant("the fox" + gen("second"))

    state = program.run(backend=heard.server)
    assert state.messages() == [
        {"role": "system", "content": "short sentences"},
        {"role": "user", "content": "who are you?"},
        {"role": "assistant", "content": state["first"]},
        {"role": "user", "content": "and the fox?"},
        {"role": "assistant", "content": f"the fox{state['second']}"},
    ]
    first, second, third, fourth, fifth = (
        f"<|im_start|>{message['role']}\n{message['content']}" for message in state.messages()
    )
    end = "<|im_end|>\n"
    assert heard.texts() == {
        f"{first}{end}{second}{end}<|im_start|>assistant\n": state["first"],
        f"{first}{end}{second}{end}{third}{end}{fourth}{end}{fifth.removesuffix(state['second'])}": state["second"],
    }


def test_a_context_that_the_server_lost_is_sent_again(stack: Stack, heard: Heard) -> None:
    @rs.function
    def program(s: rs.State) -> None:
        s += "the quick" + gen("first")
        assert s["first"]
        with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none") as client:
            client.delete(f"/contexts/{heard.answers[0]['id']}", cast_to=object)
        s += " and then" + gen("second")

    state = program.run(backend=heard.server)
    before = f"the quick{state['first']} and then"
    assert heard.texts() == {"the quick": state["first"], before: state["second"]}


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


def test_choices_are_weighed_and_the_best_is_said(heard: Heard, client: openai.OpenAI) -> None:
    choices = [" the lazy dog", " forest", " you"]

    @rs.function
    def program(s: rs.State) -> None:
        s += "the fox jumps over" + rs.select("what", choices) + " and" + gen("then")

    state = program.run(backend=heard.server)
    (answer,) = heard.answers
    result = state.meta("what")
    assert state["what"] == choices[max(range(3), key=result.scores.__getitem__)] == result.text
    answer["parts"] = answer["parts"][1:]
    assert heard.texts() == {f"the fox jumps over{state['what']} and": state["then"]}


def test_async_bodies_say_the_same_as_plain_ones() -> None:
    @rs.function
    async def program(s: rs.State) -> list[str]:
        s += "the quick brown" + gen("own")
        assert isinstance(await s.get("own"), str)
        forks = s.fork(2)
        for fork, word in zip(forks, ("fox", "dog"), strict=True):
            fork += f" {word}" + gen("next")
        await forks.join()
        return [s["own"], *s["next"]]

    @rs.function
    def plain(s: rs.State) -> list[str]:
        s += "the quick brown" + gen("own")
        forks = s.fork(2)
        for fork, word in zip(forks, ("fox", "dog"), strict=True):
            fork += f" {word}" + gen("next")
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


WEATHER = {"type": "function", "function": {"name": "weather"}}


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
        s += rs.assistant(rs.gen("call", max_tokens=200, tool_choice=WEATHER, temperature=0))
        (call,) = s.tool_calls("call")
        s += rs.tool_result(call, call.run())
        s += rs.assistant(rs.gen("answer", **GREEDY))
        return s["answer"]

    state = program.run()
    assert asked[0] in {"oslo", "rome"}
    assert [message["role"] for message in state.messages()] == ["user", "assistant", "tool", "assistant"]
    assert state.messages()[2]["content"] == "sunny"
