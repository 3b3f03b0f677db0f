"""Items of the Responses API: what a conversation consists of, and the chat that it amounts to.

An item is a message, a call of a function, its output, or reasoning. What the model said in one turn (reasoning, a
message, calls) is several items here and one message of a chat.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tokenizer_svc.api_error import invalid
from tokenizer_svc.api_error import unsupported as refused
from tokenizer_svc.limits import Limits
from tokenizer_svc.responses_api.opaque import plain
from tokenizer_svc.tools.toolbox import convert

Item = dict[str, Any]
"""An item as clients send it."""

Message = dict[str, Any]
"""A message of a chat."""

REFERENCE = "item_reference"
_ROLES = ("user", "assistant", "system", "developer")
_TEXTS = dict.fromkeys(("input_text", "output_text", "summary_text", "reasoning_text", "text"), "text")
_FIELDS = {**_TEXTS, "refusal": "refusal"}
"""By the type of a part: where its text is."""


class _Message(msgspec.Struct):
    role: str
    content: str | list[dict[str, Any]]


class _Call(msgspec.Struct):
    call_id: str
    name: str
    arguments: str


class _Output(msgspec.Struct):
    call_id: str
    output: str | list[dict[str, Any]]


class _Reasoning(msgspec.Struct):
    summary: list[dict[str, Any]] | None = None
    content: list[dict[str, Any]] | None = None
    encrypted_content: str | None = None


def items_of(input: str | list[Any], limits: Limits) -> list[Item]:
    """The items of a request's input. Raises ApiError 400."""
    if isinstance(input, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": input}]}]
    if len(input) > (most := limits.max_messages):
        raise invalid(f"input has {len(input)} items, at most {most} are allowed", "input")
    for index, item in enumerate(input):
        if not isinstance(item, dict):
            raise invalid(f"input[{index}] must be an object", f"input[{index}]", "invalid_type")
    return [{**item, "type": _kind(item)} for item in input]


def _kind(item: Item) -> Any:
    return item.get("type") or ("message" if "role" in item else REFERENCE if set(item) == {"id"} else None)


def chat_messages(instructions: str, items: Sequence[Item], limits: Limits) -> list[Message]:
    """The conversation of a chat. Raises ApiError 400."""
    messages: list[Message] = [{"role": "system", "content": instructions}] if instructions else []
    for index, item in enumerate(items):
        _add(messages, _message(item, f"input[{index}]", limits))
    if not any(message["role"] != "system" for message in messages):
        raise invalid("input is empty: at least one message is needed", "input")
    return [message for message in messages if message != {"role": "assistant", "content": []}]


def _add(messages: list[Message], message: Message) -> None:
    """Another message, or more of the assistant's last one."""
    last = messages[-1] if messages else {}
    if not last.get("role") == message["role"] == "assistant":
        messages.append(message)
        return
    last["content"] = last["content"] + message["content"]
    if calls := message.get("tool_calls"):
        last["tool_calls"] = [*last.get("tool_calls", ()), *calls]
    if reasoning := message.get("reasoning_content"):
        last["reasoning_content"] = last.get("reasoning_content", "") + reasoning


def _message(item: Item, path: str, limits: Limits) -> Message:
    match item.get("type"):
        case "message":
            return _said(convert(item, _Message, path), path, limits)
        case "function_call":
            call = convert(item, _Call, path)
            function = {"name": call.name, "arguments": call.arguments}
            calls = [{"id": call.call_id, "type": "function", "function": function}]
            return {"role": "assistant", "content": [], "tool_calls": calls}
        case "function_call_output":
            output = convert(item, _Output, path)
            content = _parts(output.output, f"{path}.output", limits)
            return {"role": "tool", "tool_call_id": output.call_id, "content": content}
        case "reasoning":
            text = _thought(convert(item, _Reasoning, path), path, limits)
            return {"role": "assistant", "content": [], "reasoning_content": text}
        case None:
            raise invalid(f"{path}.type is missing", f"{path}.type", "missing_field")
        case kind:
            what = "use message, function_call, function_call_output or reasoning"
            raise refused(f"{path}.type", f"items of the type {str(kind)[:100]!r} are not served: {what}")


def _thought(reasoning: _Reasoning, path: str, limits: Limits) -> str:
    """What was thought: in the clear where that is there."""
    parts = _parts(reasoning.content or [], f"{path}.content", limits)
    if token := reasoning.encrypted_content:
        if (text := plain(token)) is None:
            where = f"{path}.encrypted_content"
            message = (
                f"{where} was not made by this server, or is damaged: leave it out, and content or summary is read"
            )
            raise invalid(message, where, "invalid_encrypted_content")
        if not parts:
            return text
    parts = parts or _parts(reasoning.summary or [], f"{path}.summary", limits)
    return "\n".join(part["text"] for part in parts)


def _said(message: _Message, path: str, limits: Limits) -> Message:
    if message.role not in _ROLES:
        raise invalid(f"{path}.role is {message.role[:100]!r}: use {', '.join(_ROLES)}", f"{path}.role")
    return {"role": message.role, "content": _parts(message.content, f"{path}.content", limits)}


def _parts(content: str | Sequence[dict[str, Any]], path: str, limits: Limits) -> list[dict[str, str]]:
    """Text, as parts of a chat's message."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if len(content) > (most := limits.max_parts):
        raise invalid(f"{path} has {len(content)} parts, at most {most} are allowed", path)
    found: list[dict[str, str]] = []
    for index, part in enumerate(content):
        where, kind = f"{path}[{index}]", part.get("type")
        field = _FIELDS.get(kind) if isinstance(kind, str) else None
        if field is None:
            raise refused(f"{where}.type", f"{str(kind)[:100]!r} is no text, and only text is served")
        text = part.get(field)
        if not isinstance(text, str):
            raise invalid(f"{where}.{field} is missing, or no text", f"{where}.{field}", "missing_field")
        found.append({"type": "text", "text": text})
    return found
