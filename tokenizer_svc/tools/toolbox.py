"""The tools of a request: read, bounded, and resolved to what the model is told and what it may call.

With ``tool_choice: "none"`` there is no toolbox: the model is not told of tools that it must not call, which is the
only way to be sure that it does not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from tokenizer_svc.api_error import invalid, of_validation, unsupported
from tokenizer_svc.limits import Limits

_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_CHOICES = 'use "none", "auto", "required" or {"type": "function", "function": {"name": …}}'


_MORE_PROPERTIES = {
    "additionalProperties", "unevaluatedProperties", "patternProperties", "propertyNames", "minProperties", "required",
    "$ref", "anyOf", "oneOf", "allOf", "const", "enum",
}  # fmt: skip
"""Keywords that may allow arguments which ``properties`` does not list."""


class Tool(NamedTuple):
    """One function that the model may call."""

    name: str
    description: str
    parameters: Mapping[str, Any]  # a JSON Schema of an object
    is_strict: bool  # whether its arguments must obey the schema where nothing else says so

    @property
    def template_form(self) -> dict[str, Any]:
        """As chat templates want it."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}


class Toolbox(NamedTuple):
    """Every tool, and how it may be used."""

    tools: tuple[Tool, ...]
    allowed: tuple[str, ...]  # names that may be called
    is_required: bool  # whether the answer must be calls and nothing else
    is_parallel: bool  # whether there may be several calls
    has_form: bool = False  # whether a grammar binds what the answer is where it is no call

    @property
    def size(self) -> int:
        """Characters of all tools, near enough to tell much from little."""
        return sum(len(tool.description) + len(msgspec.json.encode(tool.parameters)) for tool in self.tools)

    @property
    def callable_tools(self) -> tuple[Tool, ...]:
        return tuple(tool for tool in self.tools if tool.name in self.allowed)

    @property
    def functions(self) -> dict[str, Mapping[str, Any]]:
        """Those that may be called, with the schemas of their arguments."""
        return {tool.name: tool.parameters for tool in self.callable_tools}

    @property
    def needs_grammar(self) -> bool:
        """Whether the request asks for what the model alone cannot promise."""
        is_strict = any(tool.is_strict for tool in self.callable_tools)
        is_bound = self.is_required or self.has_form or not self.is_parallel
        return is_bound or is_strict or len(self.allowed) < len(self.tools)


class ToolFields(Protocol):
    """The fields of a request that are about tools, as clients send them."""

    @property
    def tools(self) -> list[Any] | None: ...

    @property
    def tool_choice(self) -> Any: ...

    @property
    def parallel_tool_calls(self) -> bool | None: ...


def read_tools(fields: ToolFields, limits: Limits) -> Toolbox | None:
    """The toolbox of a request, None where it has no tools to call. Raises ApiError 400 with the path."""
    items = fields.tools or []
    if len(items) > limits.max_tools:
        raise invalid(f"tools has {len(items)} tools, at most {limits.max_tools} are allowed", "tools")
    tools = tuple(_tool(item, f"tools[{index}]", limits) for index, item in enumerate(items))
    names: set[str] = set()
    for index, tool in enumerate(tools):
        if tool.name in names:
            path = f"tools[{index}].function.name"
            raise invalid(f"{path} is {tool.name!r} a second time: names must be unique", path)
        names.add(tool.name)
    choice = _choice(fields.tool_choice, tools)
    if choice is None or not tools:
        return None
    is_parallel = fields.parallel_tool_calls is not False and not choice.is_named
    return Toolbox(tools, choice.allowed, choice.is_required, is_parallel)


class _Function(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Tool(msgspec.Struct):
    type: str
    function: _Function | None = None


def _tool(item: Any, path: str, limits: Limits) -> Tool:
    read = convert(item, _Tool, path)
    if read.type != "function":
        raise unsupported(f"{path}.type", f"{read.type!r} is no function, and only functions are served")
    if (function := read.function) is None:
        raise invalid(f"{path}.function is missing", f"{path}.function", "missing_field")
    where = f"{path}.function.name"
    if not (_NAME.fullmatch(function.name) and len(function.name) <= limits.max_tool_name):
        raise invalid(
            f"{where} is {function.name[: limits.max_tool_name]!r}: use 1 to {limits.max_tool_name} "
            "of the characters a-z, A-Z, 0-9, _ and -",
            where,
        )
    return Tool(
        function.name,
        function.description or "",
        _parameters(function.parameters, f"{path}.function.parameters"),
        bool(function.strict),
    )


def _parameters(schema: dict[str, Any] | None, path: str) -> dict[str, Any]:
    """The schema of the arguments; without one, and where it lists none and says no more, there are none."""
    if schema is None:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    if schema.get("properties") == {} and not schema.keys() & _MORE_PROPERTIES:
        schema = {**schema, "additionalProperties": False}
    if schema.get("type", "object") != "object":
        raise invalid(f'{path}.type must be "object": arguments are named', f"{path}.type")
    return {"type": "object", **schema}


class _Named(msgspec.Struct):
    name: str


class _Chosen(msgspec.Struct):
    type: str
    function: _Named | None = None


class _Allowed(msgspec.Struct):
    mode: str
    tools: list[Any]


class _Choice(NamedTuple):
    allowed: tuple[str, ...]
    is_required: bool
    is_named: bool = False


def _choice(choice: Any, tools: tuple[Tool, ...]) -> _Choice | None:
    """What may be called; None where nothing may."""
    every = tuple(tool.name for tool in tools)
    match choice:
        case "none":
            return None
        case "auto" | None:
            return _Choice(every, is_required=False)
        case "required":
            if not tools:
                raise invalid('tool_choice is "required" without tools: send tools', "tool_choice")
            return _Choice(every, is_required=True)
        case {"type": "function"}:
            return _Choice((_name(choice, "tool_choice", every),), is_required=True, is_named=True)
        case {"type": "allowed_tools"}:
            return _allowed(choice, every)
        case {"type": str(kind)}:
            raise unsupported("tool_choice.type", f"{kind!r} is not known: {_CHOICES}")
        case _:
            raise invalid(f"tool_choice is {choice!r:.100}: {_CHOICES}", "tool_choice")


def _name(choice: Any, path: str, names: tuple[str, ...]) -> str:
    chosen = convert(choice, _Chosen, path)
    if chosen.type != "function":
        raise unsupported(f"{path}.type", f"{chosen.type!r} is no function, and only functions are served")
    if chosen.function is None:
        raise invalid(f"{path}.function is missing", f"{path}.function", "missing_field")
    if chosen.function.name not in names:
        where = f"{path}.function.name"
        raise invalid(f"{where} is {chosen.function.name[:100]!r}, which is the name of no tool in tools", where)
    return chosen.function.name


def _allowed(choice: dict[str, Any], names: tuple[str, ...]) -> _Choice:
    path = "tool_choice.allowed_tools"
    allowed = convert(choice.get("allowed_tools"), _Allowed, path)
    if allowed.mode not in ("auto", "required"):
        raise invalid(f'{path}.mode is {allowed.mode[:100]!r}: use "auto" or "required"', f"{path}.mode")
    if not allowed.tools:
        raise invalid(f'{path}.tools is empty: use tool_choice "none" to allow no call', f"{path}.tools")
    chosen = {_name(item, f"{path}.tools[{index}]", names) for index, item in enumerate(allowed.tools)}
    return _Choice(tuple(name for name in names if name in chosen), allowed.mode == "required")


_T = TypeVar("_T")


def convert(value: Any, kind: type[_T], path: str) -> _T:
    """``value`` as ``kind``. Raises ApiError 400 with the whole path."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise of_validation(error, path) from error
