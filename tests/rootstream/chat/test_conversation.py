"""Commands and conversations as values."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream.chat.commands import KNOWN, Command, completions, help_text, parse
from rootstream.chat.conversation import Conversation
from rootstream.chat.screen import harmless
from shared.errors import UserError


def test_lines_are_commands_or_questions() -> None:
    assert parse("hello /there") == "hello /there"
    assert parse("//usr/bin?") == "/usr/bin?"
    assert parse("/set temperature 0.7 ") == Command("set", "temperature 0.7")
    assert parse("/EXIT") == Command("quit", "")
    with pytest.raises(UserError, match="did you mean /retry"):
        parse("/rety")
    assert all(f"/{name}" in help_text() for name in KNOWN)
    assert completions("/s") == ["/system", "/save", "/set"]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("temperature", "0.7", 0.7),
        ("max_tokens", "5", 5),
        ("stop", '["a", "b"]', ["a", "b"]),
        ("stop", "END", ["END"]),
        ("ignore_eos", "on", True),
        ("response_format", '{"type": "json_object"}', {"type": "json_object"}),
    ],
)
def test_fields_are_set_with_their_types(name: str, text: str, value: object) -> None:
    talk = Conversation("m")
    talk.set(name, text)
    assert talk.body() == {name: value, "model": "m", "messages": []}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [("temprature", "1", "temperature"), ("seed", "x", "whole number"), ("top_p", "", "number")],
)
def test_what_cannot_be_set_is_told(name: str, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Conversation("m").set(name, text)


def test_questions_are_taken_back_with_their_answers() -> None:
    talk = Conversation("m", "be kind")
    talk.ask("one")
    talk.answer("1")
    talk.ask("two")
    assert talk.undo() == "two"
    assert talk.undo() == "one"
    assert talk.undo() is None
    assert talk.body()["messages"] == [{"role": "system", "content": "be kind"}]


TEXTS = st.text(max_size=20)


@given(st.none() | TEXTS.filter(bool), st.lists(st.tuples(TEXTS, TEXTS), max_size=3))
def test_a_saved_conversation_is_loaded_as_it_was(system: str | None, said: list[tuple[str, str]]) -> None:
    talk = Conversation("m", system, {"temperature": 0.5})
    for question, answer in said:
        talk.ask(question)
        talk.answer(answer)
    other = Conversation("m")
    other.load(talk.as_json())
    assert other.body() == talk.body()


def test_a_plain_list_of_messages_is_loaded_too() -> None:
    talk = Conversation("m")
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    talk.load(json.dumps(messages))
    assert talk.body()["messages"] == messages


@pytest.mark.parametrize("text", ["", "{}", '{"messages": [{"role": "robot", "content": ""}]}', '["x"]', "3"])
def test_what_is_no_conversation_changes_nothing(text: str) -> None:
    talk = Conversation("m")
    talk.ask("q")
    with pytest.raises(UserError):
        talk.load(text)
    assert talk.messages == [{"role": "user", "content": "q"}]


def test_a_model_cannot_command_the_terminal() -> None:
    assert harmless("a\x1b[31m\x07\x9b2J\u202eb\n\tc # **d**\ud800") == "a[31m2Jb\n\tc # **d**?"
