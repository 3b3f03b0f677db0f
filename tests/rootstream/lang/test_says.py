"""Parts, and what their arguments may be."""

from typing import Any

import pytest

import rootstream as rs
from rootstream.lang.parts import Close, Gen, Message, Open, Select, Text, Tools, Typed


def test_parts_add_up_with_strings_on_both_sides() -> None:
    said = "a" + rs.gen("x") + "b" + rs.user("c")
    assert tuple(said) == (Text("a"), Gen(name="x"), Text("b"), Open("user"), Text("c"), Close())


def test_what_gen_takes() -> None:
    (asked,) = rs.gen("x", max_tokens=3, stop="\n", logit_bias={5: 1}, temperature=0, stop_token_ids=[1], n=2)
    assert asked == Gen(
        name="x", max_tokens=3, stop=("\n",), logit_bias={"5": 1.0}, temperature=0, stop_token_ids=(1,), n=2
    )
    assert tuple(rs.gen("x", top_logprobs=2)) == (Gen(name="x", logprobs=True, top_logprobs=2),)
    assert tuple(rs.gen("x", choices=["a", "b"])) == (Gen(name="x", choices=("a", "b")),)
    assert tuple(rs.gen("x", top_k=-1)) == (Gen(name="x", top_k=-1),)


def test_tools_of_a_generation_are_named_before_it() -> None:
    schema = {"name": "look", "parameters": {"type": "object", "properties": {}}}
    assert tuple(rs.gen("x", tools=[schema], tool_choice="required")) == (
        Tools(({"type": "function", "function": schema},)),
        Gen(name="x", tool_choice="required"),
    )


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"name": ""}, TypeError, "name of its value"),
        ({"name": 3}, TypeError, "name of its value"),
        ({"regex": "a", "choices": ["b"]}, ValueError, "regex and choices"),
        ({"regex": 3}, TypeError, "regex is a text"),
        ({"choices": []}, ValueError, "choices is empty"),
        ({"choices": ["a", 3]}, TypeError, "choices holds 3"),
        ({"stop": ["a", ""]}, ValueError, "stop holds an empty text"),
        ({"max_tokens": "3"}, TypeError, "max_tokens is a whole number, not '3'"),
        ({"max_tokens": -1}, ValueError, "max_tokens is -1"),
        ({"temperature": True}, TypeError, "temperature is a number, not True"),
        ({"temperature": -0.5}, ValueError, "temperature is -0.5"),
        ({"n": 0}, ValueError, "n is how many"),
        ({"n": 1.5}, TypeError, "n is a whole number"),
        ({"dtype": "int"}, TypeError, "'int' is no type"),
        ({"json_schema": "{"}, ValueError, "no JSON"),
    ],
)
def test_what_gen_refuses(arguments: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        rs.gen(**{"name": "x", **arguments})


def test_select() -> None:
    assert tuple(rs.select("x", ["a", "b"], "greedy_token")) == (
        Select(name="x", choices=("a", "b"), method="greedy_token"),
    )
    for choices, error, says in (
        ("ab", TypeError, "one text"),
        ([], ValueError, "empty"),
        (["a", "a"], ValueError, "twice"),
    ):
        with pytest.raises(error, match=says):
            rs.select("x", choices)
    with pytest.raises(ValueError, match="method is one of"):
        rs.select("x", ["a"], "best")  # type: ignore[arg-type]


def test_messages() -> None:
    assert tuple(rs.message({"role": "tool", "content": "4"})) == (Message({"role": "tool", "content": "4"}),)
    with pytest.raises(ValueError, match="role"):
        rs.message({"content": "4"})
    with pytest.raises(TypeError, match="an image"):
        rs.image("")


def test_what_nobody_can_say() -> None:
    with pytest.raises(TypeError, match="not of int"):
        rs.gen("x") + 3  # type: ignore[operator]


def test_a_typed_generation_keeps_its_reader() -> None:
    (typed,) = rs.gen("x", dtype=int, max_tokens=4)
    assert isinstance(typed, Typed)
    assert typed.gen.max_tokens == 4
    assert typed.read("-12") == -12


def test_a_type_beside_a_form_only_reads() -> None:
    (typed,) = rs.gen("x", dtype=int, regex="[0-9]{2}")
    assert isinstance(typed, Typed)
    assert typed.gen == Gen(name="x", regex="[0-9]{2}")
    assert typed.read("07") == 7
    schema = {"type": "array", "items": {"type": "integer"}}
    (typed,) = rs.gen("x", dtype=list[int], json_schema=schema)
    assert isinstance(typed, Typed)
    assert typed.gen == Gen(name="x", json_schema=schema)
    assert typed.read("[1]") == [1]
