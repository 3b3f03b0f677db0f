"""Tools and tool_choice as clients send them: what is accepted, and the path of what is not."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from tokenizer_svc.api_error import ApiError
from tokenizer_svc.limits import Limits
from tokenizer_svc.tools.toolbox import Toolbox, read_tools

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


class Fields(NamedTuple):
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None


def tool(name: str = "get_weather", **function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **function}}


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def read(*fields: Any) -> Toolbox:
    toolbox = read_tools(Fields(*fields), Limits())
    assert toolbox is not None
    return toolbox


def test_a_tool_is_read_whole() -> None:
    toolbox = read([tool(description="Looks outside.", parameters=WEATHER, strict=True)])
    [read_tool] = toolbox.tools
    assert read_tool == ("get_weather", "Looks outside.", WEATHER, True)
    assert list(read_tool.parameters) == list(WEATHER)


def test_a_tool_without_parameters_takes_none() -> None:
    for nothing in (None, {"properties": {}}, {"type": "object", "properties": {}, "title": "f"}):
        [read_tool] = read([tool() if nothing is None else tool(parameters=nothing)]).tools
        expected = {"type": "object", "properties": {}, "additionalProperties": False}
        assert read_tool.parameters == (nothing or {}) | expected


def test_parameters_without_a_type_are_an_object() -> None:
    anything = {"properties": {}, "additionalProperties": True}
    [read_tool] = read([tool(parameters=anything)]).tools
    assert read_tool.parameters == {"type": "object", **anything}


@pytest.mark.parametrize("choice", [None, "none", "auto"])
def test_without_tools_there_is_no_toolbox(choice: str | None) -> None:
    for tools in (None, []):
        assert read_tools(Fields(tools, choice, True), Limits()) is None


def test_none_takes_the_tools_away() -> None:
    assert read_tools(Fields([tool()], "none"), Limits()) is None


def allowed(mode: str, *names: str) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [named(name) for name in names]}}


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, (("a", "b"), False, True)),
        ("auto", True, (("a", "b"), False, True)),
        ("auto", False, (("a", "b"), False, False)),
        ("required", None, (("a", "b"), True, True)),
        ("required", False, (("a", "b"), True, False)),
        (named("b"), None, (("b",), True, False)),
        (named("b"), True, (("b",), True, False)),
        (allowed("auto", "b"), None, (("b",), False, True)),
        (allowed("required", "b", "a"), None, (("a", "b"), True, True)),
    ],
)
def test_choices(choice: Any, parallel: bool | None, expected: tuple[tuple[str, ...], bool, bool]) -> None:
    toolbox = read([tool("a"), tool("b")], choice, parallel)
    assert (toolbox.allowed, toolbox.is_required, toolbox.is_parallel) == expected
    assert [tool.name for tool in toolbox.tools] == ["a", "b"]
    assert [tool.name for tool in toolbox.callable_tools] == list(expected[0])


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        (([tool("a"), tool("b")],), False),
        (([tool("a"), tool("b", strict=True)],), True),
        (([tool("a"), tool("b", strict=True)], allowed("auto", "a")), True),
        (([tool("a")], allowed("auto", "a")), False),
        (([tool("a")], "required"), True),
        (([tool("a")], "auto", False), True),
    ],
)
def test_a_grammar_is_needed_for_what_the_model_cannot_promise(fields: tuple[Any, ...], needs: bool) -> None:
    assert read(*fields).needs_grammar is needs


REFUSED: list[tuple[tuple[Any, ...], str, str]] = [
    ((["x"],), "tools[0]", "Expected `object`"),
    (([{}],), "tools[0].type", "missing"),
    (([tool(), {"type": "function"}],), "tools[1].function", "missing"),
    (([{"type": "function", "function": {}}],), "tools[0].function.name", "missing"),
    (([{"type": "web_search"}],), "tools[0].type", "only functions"),
    (([tool("a b")],), "tools[0].function.name", "characters"),
    (([tool("")],), "tools[0].function.name", "characters"),
    (([tool("x" * 65)],), "tools[0].function.name", "characters"),
    (([tool("a"), tool("a")],), "tools[1].function.name", "unique"),
    (([tool(parameters=[])],), "tools[0].function.parameters", "Expected `object"),
    (([tool(parameters={"type": "array"})],), "tools[0].function.parameters.type", "object"),
    (([tool(strict="yes")],), "tools[0].function.strict", "Expected `bool"),
    (([tool(str(i)) for i in range(129)],), "tools", "at most 128"),
    ((None, "required"), "tool_choice", "without tools"),
    ((None, named("a")), "tool_choice.function.name", "no tool"),
    (([tool("a")], named("b")), "tool_choice.function.name", "no tool"),
    (([tool("a")], {"type": "function"}), "tool_choice.function", "missing"),
    (([tool("a")], {"type": "custom", "custom": {"name": "a"}}), "tool_choice.type", "not known"),
    (([tool("a")], "any"), "tool_choice", "use"),
    (([tool("a")], 1), "tool_choice", "use"),
    (([tool("a")], {"type": "allowed_tools"}), "tool_choice.allowed_tools", "Expected `object`"),
    (([tool("a")], allowed("never", "a")), "tool_choice.allowed_tools.mode", "auto"),
    (([tool("a")], allowed("auto")), "tool_choice.allowed_tools.tools", "empty"),
    (([tool("a")], allowed("auto", "a", "c")), "tool_choice.allowed_tools.tools[1].function.name", "no tool"),
]


@pytest.mark.parametrize(("fields", "path", "why"), REFUSED)
def test_what_is_refused_is_named(fields: tuple[Any, ...], path: str, why: str) -> None:
    with pytest.raises(ApiError, match=r".") as refused:
        read_tools(Fields(*fields), Limits())
    assert refused.value.status == 400
    assert refused.value.body.param == path
    assert why in refused.value.body.message
    assert path in refused.value.body.message
