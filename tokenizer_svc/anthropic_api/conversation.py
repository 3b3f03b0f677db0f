"""Conversations of Anthropic's API as chats have them.

A turn of the user's may hold results of tools beside text: each becomes a message of its own, in their order. Turns of
one role that follow one another are one, as Anthropic has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tokenizer_svc.api_error import invalid
from tokenizer_svc.api_error import unsupported as refused
from tokenizer_svc.limits import Limits
from tokenizer_svc.tools.toolbox import convert

Message = dict[str, Any]
"""A message of a chat."""


class MessagesBlock(msgspec.Struct):
    """One block of content: the fields of all types that are served."""

    type: str
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: Any = None
    is_error: bool | None = None


Content = str | list[MessagesBlock]


class MessagesTurn(msgspec.Struct):
    """One message of a conversation."""

    role: str
    content: Content


class _Result(msgspec.Struct):
    content: Content | None


_SYSTEM, _USER, _ASSISTANT = "system", "user", "assistant"
_ONLY_TEXT = "only text is served"


def chat_messages(system: Content | None, turns: Sequence[MessagesTurn], limits: Limits) -> list[Message]:
    """The conversation of a chat. Raises ApiError 400."""
    if not turns:
        raise invalid("messages is empty: at least one message is needed", "messages")
    messages: list[Message] = []
    if system is not None and system != [] and system != "":
        messages.append({"role": _SYSTEM, "content": _texts(system, "system", limits)})
    for index, turn in enumerate(turns):
        path = f"messages[{index}]"
        match turn.role:
            case "user":
                found = _user(turn, path, limits)
            case "assistant":
                found = [_assistant(turn, path, limits)]
            case "system":
                found = [{"role": _SYSTEM, "content": _texts(turn.content, f"{path}.content", limits)}]
            case role:
                raise invalid(f'{path}.role is {role[:100]!r}: use "user" or "assistant"', f"{path}.role")
        for message in found:
            _add(messages, message)
    return messages


def _add(messages: list[Message], message: Message) -> None:
    """Another message, or more of the last one."""
    last = messages[-1] if messages else {}
    if last.get("role") != message["role"] or message["role"] not in (_USER, _ASSISTANT):
        messages.append(message)
        return
    last["content"] = last["content"] + message["content"]
    if calls := message.get("tool_calls"):
        last["tool_calls"] = [*last.get("tool_calls", ()), *calls]
    if thoughts := message.get("reasoning_content"):
        last["reasoning_content"] = last.get("reasoning_content", "") + thoughts


def _user(turn: MessagesTurn, path: str, limits: Limits) -> list[Message]:
    if isinstance(turn.content, str):
        return [{"role": _USER, "content": [_part(turn.content)]}]
    found: list[Message] = []
    for block, where in _blocks(turn.content, f"{path}.content", limits):
        match block.type:
            case "text":
                _add(found, {"role": _USER, "content": [_part(_text(block, where))]})
            case "tool_result":
                found.append(_result(block, where, limits))
            case _:
                raise _not_served(block, where)
    return found or [{"role": _USER, "content": []}]


def _assistant(turn: MessagesTurn, path: str, limits: Limits) -> Message:
    if isinstance(turn.content, str):
        return {"role": _ASSISTANT, "content": [_part(turn.content)]}
    parts: list[dict[str, str]] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for block, where in _blocks(turn.content, f"{path}.content", limits):
        match block.type:
            case "text":
                parts.append(_part(_text(block, where)))
            case "thinking":
                thoughts.append(block.thinking or "")
            case "tool_use":
                calls.append(_call(block, where))
            case _:
                raise _not_served(block, where)
    if len(calls) > limits.max_tool_calls:
        raise invalid(f"{path} has {len(calls)} calls, at most {limits.max_tool_calls} are allowed", path)
    message: Message = {"role": _ASSISTANT, "content": parts}
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _blocks(blocks: Sequence[MessagesBlock], path: str, limits: Limits) -> list[tuple[MessagesBlock, str]]:
    """Every block, and where it is."""
    if len(blocks) > (most := limits.max_parts):
        raise invalid(f"{path} has {len(blocks)} blocks, at most {most} are allowed", path)
    return [(block, f"{path}[{index}]") for index, block in enumerate(blocks)]


def _texts(content: Content, path: str, limits: Limits) -> list[dict[str, str]]:
    """Content that may hold nothing but text, as parts of a message."""
    if isinstance(content, str):
        return [_part(content)]
    parts: list[dict[str, str]] = []
    for block, where in _blocks(content, path, limits):
        if block.type != "text":
            raise _not_served(block, where)
        parts.append(_part(_text(block, where)))
    return parts


def _call(block: MessagesBlock, path: str) -> dict[str, Any]:
    arguments = msgspec.json.encode({} if block.input is None else block.input).decode()
    function = {"name": _given(block.name, f"{path}.name"), "arguments": arguments}
    return {"id": _given(block.id, f"{path}.id"), "type": "function", "function": function}


def _result(block: MessagesBlock, path: str, limits: Limits) -> Message:
    id = _given(block.tool_use_id, f"{path}.tool_use_id")
    content = convert({"content": block.content}, _Result, path).content
    parts = _texts(content or "", f"{path}.content", limits)
    if block.is_error:
        parts = [_part("The tool failed."), *parts]
    return {"role": "tool", "tool_call_id": id, "content": parts}


def _text(block: MessagesBlock, path: str) -> str:
    return _given(block.text, f"{path}.text")


def _given(value: str | None, path: str) -> str:
    if value is None:
        raise invalid(f"{path} is missing", path, "missing_field")
    return value


def _part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _not_served(block: MessagesBlock, path: str) -> Exception:
    return refused(f"{path}.type", f"{block.type[:100]!r} is no text, and {_ONLY_TEXT}")
