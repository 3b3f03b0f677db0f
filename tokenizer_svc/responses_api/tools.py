"""Tools of the Responses API as chats have them, and as answers repeat them."""

from __future__ import annotations

from typing import Any

import msgspec

from tokenizer_svc.api_error import invalid
from tokenizer_svc.api_error import unsupported as refused
from tokenizer_svc.limits import Limits
from tokenizer_svc.tools.toolbox import convert

_CHOICES = 'use "none", "auto", "required", {"type": "function", "name": …} or {"type": "allowed_tools", …}'


class ResponseTool(msgspec.Struct, omit_defaults=True):
    """A function that the client has."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    defer_loading: bool | None = None
    output_schema: dict[str, Any] | None = None  # tells the client's own code, not the model


class _Named(msgspec.Struct):
    name: str
    type: str = "function"


class _Allowed(msgspec.Struct):
    mode: str
    tools: list[_Named]


def read_tool(item: Any, path: str) -> ResponseTool:
    """One of ``tools``. Raises ApiError 400."""
    kind = item.get("type") if isinstance(item, dict) else None
    if isinstance(kind, str) and kind != "function":
        raise refused(f"{path}.type", f"{kind[:100]!r} is a tool of OpenAI's own servers: offer a function of yours")
    if isinstance(item, dict) and kind is None:
        raise invalid(f"{path}.type is missing", f"{path}.type", "missing_field")
    tool = convert(item, ResponseTool, path)
    if tool.defer_loading:
        raise refused(f"{path}.defer_loading", "all tools are told to the model")
    return tool


def chat_tools(items: list[Any] | None, limits: Limits) -> list[dict[str, Any]] | None:
    """The same tools in a chat. Raises ApiError 400."""
    if items is None:
        return None
    if len(items) > limits.max_tools:
        raise invalid(f"tools has {len(items)} tools, at most {limits.max_tools} are allowed", "tools")
    return [_chat_tool(read_tool(item, f"tools[{index}]")) for index, item in enumerate(items)]


def _chat_tool(tool: ResponseTool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": {**function, "strict": bool(tool.strict)}}


def shown_tools(items: list[Any] | None) -> list[dict[str, Any]]:
    """The tools as an answer repeats them."""
    return [
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters,
            "strict": bool(tool.strict),
        }
        for tool in (read_tool(item, "tools") for item in items or ())
    ]


def chat_tool_choice(choice: Any) -> Any:
    """The same choice in a chat. Raises ApiError 400."""
    match choice:
        case None | "none" | "auto" | "required":
            return choice
        case {"type": "function"}:
            return _chat_named(convert(choice, _Named, "tool_choice"))
        case {"type": "allowed_tools"}:
            allowed = convert(choice, _Allowed, "tool_choice")
            for index, named in enumerate(allowed.tools):
                if named.type != "function":
                    raise refused(f"tool_choice.tools[{index}].type", "only functions are served")
            tools = [_chat_named(named) for named in allowed.tools]
            return {"type": "allowed_tools", "allowed_tools": {"mode": allowed.mode, "tools": tools}}
        case {"type": str(kind)}:
            raise refused("tool_choice.type", f"{kind[:100]!r} is not known: {_CHOICES}")
        case _:
            raise invalid(f"tool_choice is {choice!r:.100}: {_CHOICES}", "tool_choice")


def _chat_named(named: _Named) -> dict[str, Any]:
    return {"type": "function", "function": {"name": named.name}}
