"""Tools: Python's functions as schemas, and the model's calls of them as values. Pure."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, get_type_hints

from rootstream.lang.parts import Message, Parts, Tools
from rootstream.lang.schemas import json_shape, jsonable

Tool = Callable[..., Any] | Mapping[str, Any]
"""A function with type hints, or a schema as chat APIs write it."""


class ToolCall(NamedTuple):
    """What the model wants to be called."""

    id: str
    name: str
    arguments: dict[str, Any]
    function: Callable[..., Any] | None = None
    """Python's, if it is one of the program's tools."""

    def run(self) -> Any:
        """What the function returns: an awaitable, if it is async. Raises LookupError where there is none."""
        if self.function is None:
            raise LookupError(f"{self.name!r} is no Python function of this program")
        return self.function(**self.arguments)


def tools_of(tools: Iterable[Tool]) -> Tools:
    """Raises TypeError for what is no tool."""
    schemas: list[dict[str, Any]] = []
    functions: dict[str, Callable[..., Any]] = {}
    for tool in tools:
        if isinstance(tool, Mapping):
            schemas.append(dict(tool) if "function" in tool else {"type": "function", "function": dict(tool)})
        elif callable(tool):
            schemas.append(schema_of(tool))
            functions[schemas[-1]["function"]["name"]] = tool
        else:
            raise TypeError(f"a tool is a function or its schema, not {tool!r}")
    return Tools(tuple(schemas), functions)


def schema_of(function: Callable[..., Any]) -> dict[str, Any]:
    """A function as chat APIs describe it: its name, its docstring, its parameters by their type hints.

    What has no hint may be anything; what has a default may be left out. Raises TypeError for `*args` and `**keywords`.
    """
    name = getattr(function, "__name__", type(function).__name__)
    hints = get_type_hints(function)
    properties: dict[str, Any] = {}
    required: list[str] = []
    definitions: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY}:
            raise TypeError(f"{name}: a tool's parameters have names, {parameter} has none")
        schema = dict(json_shape(hints[parameter.name]).json_schema or {}) if parameter.name in hints else {}
        definitions |= schema.pop("$defs", {})
        properties[parameter.name] = schema
        if parameter.default is parameter.empty:
            required.append(parameter.name)
        else:
            schema["default"] = jsonable(parameter.default)
    parameters: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
    if definitions:
        parameters["$defs"] = definitions
    described = {"description": inspect.cleandoc(function.__doc__)} if function.__doc__ else {}
    return {"type": "function", "function": {"name": name, **described, "parameters": parameters}}


def tool_calls_of(calls: Iterable[Mapping[str, Any]], tools: Tools | None) -> tuple[ToolCall, ...]:
    """Calls as chat APIs write them, their arguments read: as the function's hints have them, where it is Python's.

    Raises ValueError for arguments that are no JSON object.
    """
    functions = tools.functions if tools is not None else {}
    found: list[ToolCall] = []
    for call in calls:
        name, written = call["function"]["name"], call["function"]["arguments"]
        arguments = _parsed(written or "{}") if isinstance(written, str) else written
        if not isinstance(arguments, dict):
            hint = "a max_tokens that cuts them short is the usual cause"
            raise ValueError(f"the arguments of {name!r} are no JSON object: {written!r}; {hint}")
        function = functions.get(name)
        if function is not None:
            hints = get_type_hints(function)
            arguments = {key: _read(hints[key], value) if key in hints else value for key, value in arguments.items()}
        found.append(ToolCall(call["id"], name, arguments, function))
    return tuple(found)


def _parsed(written: str) -> Any:
    try:
        return json.loads(written)
    except ValueError:
        return None


def _read(hint: Any, value: Any) -> Any:
    read = json_shape(hint).read
    return value if read is None else read(json.dumps(value))


def tool_result(call: ToolCall, value: Any) -> Parts:
    """The message that tells the model what a call came to: a text as it is, everything else as JSON."""
    content = value if isinstance(value, str) else json.dumps(jsonable(value), ensure_ascii=False)
    return Parts((Message({"role": "tool", "tool_call_id": call.id, "content": content}),))
