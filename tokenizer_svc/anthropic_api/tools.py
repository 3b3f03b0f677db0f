"""Tools of Anthropic's API as chats have them."""

from __future__ import annotations

from typing import Any

import msgspec

from tokenizer_svc.api_error import invalid
from tokenizer_svc.api_error import unsupported as refused
from tokenizer_svc.limits import Limits
from tokenizer_svc.tools.toolbox import convert

_CHOICES = 'use {"type": "auto"}, {"type": "any"}, {"type": "none"} or {"type": "tool", "name": …}'


class Tool(msgspec.Struct):
    """A function that the client has. ``cache_control`` asks for what is done for every prefix anyway."""

    name: str
    input_schema: dict[str, Any] | None = None
    type: str | None = None
    description: str | None = None
    strict: bool | None = None
    defer_loading: bool | None = None
    allowed_callers: list[str] | None = None
    input_examples: list[Any] | None = None


class ToolChoice(msgspec.Struct):
    """How tools may be used."""

    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


def chat_tools(items: list[Any] | None, limits: Limits) -> list[dict[str, Any]] | None:
    """The same tools in a chat. Raises ApiError 400."""
    if items is None:
        return None
    if len(items) > limits.max_tools:
        raise invalid(f"tools has {len(items)} tools, at most {limits.max_tools} are allowed", "tools")
    return [_tool(item, f"tools[{index}]") for index, item in enumerate(items)]


def _tool(item: Any, path: str) -> dict[str, Any]:
    if isinstance(item, dict) and item.get("type") not in (None, "custom"):
        kind = str(item["type"])[:100]
        raise refused(f"{path}.type", f"{kind!r} is a tool of Anthropic's own servers: offer one of yours")
    tool = convert(item, Tool, path)
    if tool.input_schema is None:
        raise invalid(f"{path}.input_schema is missing", f"{path}.input_schema", "missing_field")
    if tool.defer_loading:
        raise refused(f"{path}.defer_loading", "all tools are told to the model")
    if tool.allowed_callers not in (None, [], ["direct"]):
        raise refused(f"{path}.allowed_callers", "only the model calls tools here")
    if tool.input_examples:
        raise refused(f"{path}.input_examples", "say it in the description")
    function = {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
    return {"type": "function", "function": {**function, "strict": bool(tool.strict)}}


def chat_tool_choice(choice: Any) -> Any:
    """The same choice in a chat. Raises ApiError 400."""
    if choice is None:
        return None
    chosen = convert(choice, ToolChoice, "tool_choice")
    match chosen:
        case ToolChoice(type="auto" | "none"):
            return chosen.type
        case ToolChoice(type="any"):
            return "required"
        case ToolChoice(type="tool", name=str(name)):
            return {"type": "function", "function": {"name": name}}
        case ToolChoice(type="tool"):
            raise invalid("tool_choice.name is missing", "tool_choice.name", "missing_field")
        case _:
            raise invalid(f"tool_choice.type is {chosen.type[:100]!r}: {_CHOICES}", "tool_choice.type")


def is_parallel(choice: Any) -> bool | None:
    """Whether several tools may be called at once; None where nothing is said of it."""
    if choice is None:
        return None
    return not convert(choice, ToolChoice, "tool_choice").disable_parallel_tool_use
