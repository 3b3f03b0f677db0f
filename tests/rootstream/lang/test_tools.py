"""Tools: functions as schemas, calls as values, results as messages."""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec
import pytest

import rootstream as rs
from rootstream.lang.calls import Result
from rootstream.lang.parts import Message
from rootstream.lang.tools import schema_of, tool_calls_of, tools_of
from tests.rootstream.lang.memory import Memory


class Place(msgspec.Struct):
    city: str


def weather(place: Place, unit: Literal["C", "F"] = "C", days: int = 1) -> str:
    """The weather somewhere.

    For some days.
    """
    return f"{place.city}: {20 * days} {unit}"


def called(name: str, arguments: str) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


def test_a_function_as_a_schema() -> None:
    described = schema_of(weather)["function"]
    assert described["name"] == "weather"
    assert described["description"] == "The weather somewhere.\n\nFor some days."
    parameters = described["parameters"]
    assert parameters["required"] == ["place"]
    assert parameters["properties"]["place"]["properties"] == {"city": {"type": "string"}}
    assert parameters["properties"]["unit"] == {"enum": ["C", "F"], "default": "C"}
    assert parameters["properties"]["days"] == {"type": "integer", "default": 1}


def test_what_is_no_tool() -> None:
    with pytest.raises(TypeError, match="a tool is a function"):
        tools_of([3])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="have names"):
        schema_of(lambda *args: args)


def test_arguments_are_read_by_their_hints() -> None:
    (call,) = tool_calls_of([called("weather", '{"place": {"city": "Oslo"}, "days": 2}')], tools_of([weather]))
    assert call.arguments == {"place": Place("Oslo"), "days": 2}
    assert call.run() == "Oslo: 40 C"


def test_calls_of_what_is_no_function_here() -> None:
    (call,) = tool_calls_of([called("other", "")], tools_of([weather]))
    assert call.arguments == {}
    with pytest.raises(LookupError, match="no Python function"):
        call.run()
    with pytest.raises(ValueError, match="no JSON object"):
        tool_calls_of([called("other", "[1]")], None)
    with pytest.raises(ValueError, match="max_tokens"):
        tool_calls_of([called("other", '{"a": "')], None)


def test_results_are_messages() -> None:
    (call,) = tool_calls_of([called("weather", "{}")], None)
    assert tuple(rs.tool_result(call, "fine")) == (
        Message({"role": "tool", "tool_call_id": "call_1", "content": "fine"}),
    )
    (told,) = rs.tool_result(call, Place("Oslo"))
    assert isinstance(told, Message)
    assert json.loads(told.message["content"]) == {"city": "Oslo"}


def test_an_agent_calls_its_tools() -> None:
    @rs.function
    def agent(s: rs.State) -> str:
        s.tools = [weather]
        s += rs.user("How is Oslo?") + rs.assistant(rs.gen("step"))
        for call in s.tool_calls("step"):
            s += rs.tool_result(call, call.run())
        s += rs.assistant(rs.gen("answer"))
        return s["answer"]

    wanted = called("weather", '{"place": {"city": "Oslo"}}')
    step = Result(name="step", text="", part=0, tool_calls=(wanted,), reasoning_content="hm")
    backend = Memory(answers={"step": step, "answer": "Fine."})
    state = agent.run(backend=backend)
    assert state.messages() == [
        {"role": "user", "content": "How is Oslo?"},
        {"role": "assistant", "content": None, "tool_calls": [wanted], "reasoning_content": "hm"},
        {"role": "tool", "tool_call_id": "call_1", "content": "Oslo: 20 C"},
        {"role": "assistant", "content": "Fine."},
    ]
    assert [[tool["function"]["name"] for tool in call.tools] for call in backend.calls] == [["weather"], ["weather"]]


def test_tools_are_named_at_the_beginning() -> None:
    @rs.function
    def program(s: rs.State) -> None:
        s += rs.user("a") + rs.assistant(rs.gen("x"))
        s["x"]
        with pytest.raises(rs.Misplaced, match="beginning"):
            s += rs.tools([weather])

    program.run(backend=Memory())
