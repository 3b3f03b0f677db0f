"""Errors that count a call's parts, in the program's words."""

import pytest

import rootstream as rs
from rootstream.lang.explaining import described, explain
from rootstream.lang.parts import Close, Gen, Image, Message, Open, Part, Select, Text


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (Gen(name="x"), "gen('x')"),
        (Select(name="y", choices=("a",)), "select('y')"),
        (Text("short"), "the text 'short'"),
        (Text("l" * 40), f"the text '{'l' * 30}'…"),
        (Open("user"), "the beginning of a message of the user"),
        (Close(), "the end of a message"),
        (Message({"role": "tool"}), "a message of the tool"),
        (Image("https://x"), "an image"),
    ],
)
def test_parts_in_words(part: Part, words: str) -> None:
    assert described(part) == words


def test_a_place_is_explained() -> None:
    error = rs.CallError("parts[1].regex: this ( is never closed", 400, "invalid_grammar")
    explain(error, (Text("a"), Gen(name="x", regex="(")))
    assert str(error) == "parts[1].regex: this ( is never closed; parts[1] is gen('x')"
    assert (error.status, error.code) == (400, "invalid_grammar")


@pytest.mark.parametrize("message", ["too busy", "parts[7]: who knows"])
def test_what_names_no_part_stays(message: str) -> None:
    error = rs.CallError(message)
    explain(error, (Text("a"),))
    assert str(error) == message
