"""Conversations: messages as clients send them, as templates want them, and as token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from shared.chat_template import ChatTemplateError
from tokenizer_svc.api_error import invalid, unsupported
from tokenizer_svc.engine import Engine
from tokenizer_svc.limits import Limits
from tokenizer_svc.prompts import aside, tokenise
from tokenizer_svc.tools.prompting import render
from tokenizer_svc.tools.toolbox import Toolbox
from tokenizer_svc.tools.turns import Turn, read_calls

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_RESERVED = {"messages", "tools", "documents", "add_generation_prompt"}


class Part(msgspec.Struct):
    """One part of a message's content."""

    type: str
    text: str | None = None


class Message(msgspec.Struct):
    """One message of a conversation."""

    role: str
    content: str | list[Part] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None  # the same, as vLLM and OpenRouter call it
    tool_calls: Any = None
    tool_call_id: str | None = None
    function_call: Any = None
    audio: Any = None


async def encode_chat(
    engine: Engine,
    messages: Sequence[Message],
    toolbox: Toolbox | None,
    *,
    add_generation_prompt: bool,
    variables: Mapping[str, Any],
) -> list[int]:
    """Token ids of a conversation, through the model's template. Raises ApiError 400."""
    if not messages:
        raise invalid("messages is empty: at least one message is needed", "messages")
    if len(messages) > (most := engine.limits.max_messages):
        raise invalid(f"messages has {len(messages)} messages, at most {most} are allowed", "messages")
    if len(variables) > (most := engine.limits.max_template_variables):
        raise invalid(f"chat_template_kwargs has more than {most} entries", "chat_template_kwargs")
    if reserved := sorted(variables.keys() & _RESERVED):
        path = f"chat_template_kwargs.{reserved[0]}"
        raise invalid(f"{path} cannot be set: it has a field of its own", path)
    card = engine.ready_card()
    turns = [_turn(message, f"messages[{index}]", engine.limits) for index, message in enumerate(messages)]
    size = sum(len(turn["content"]) for turn in turns) + (0 if toolbox is None else toolbox.size)

    def work() -> list[int]:
        text = render(engine, turns, toolbox, add_generation_prompt=add_generation_prompt, **variables)
        return tokenise(engine, card, text, "messages", add_special_tokens=False)

    try:
        ids = await aside(engine, size, work)
    except ChatTemplateError as error:
        raise invalid(f"the model's chat template refuses these messages: {error}", "messages") from error
    except LookupError as error:
        raise invalid("this model has no chat template: use /v1/completions", "messages") from error
    if not ids:
        raise invalid("messages render to an empty prompt", "messages")
    return ids


def _turn(message: Message, path: str, limits: Limits) -> Turn:
    """The message as templates know it."""
    for field, instead in (("function_call", "use tool_calls"), ("audio", "")):
        if getattr(message, field) not in (None, [], {}, ""):
            raise unsupported(f"{path}.{field}", instead)
    if message.role == "function":
        raise unsupported(f"{path}.role", "the role 'function' is that of an older API: use 'tool'")
    if message.role not in _ROLES:
        raise invalid(f"{path}.role is {message.role!r}: use {', '.join(_ROLES)}", f"{path}.role")
    turn: Turn = {"role": _ROLES[message.role], "content": _text(message, path, limits)}
    for field, role in (("tool_calls", "assistant"), ("tool_call_id", "tool")):
        value = getattr(message, field)
        if value in (None, [], ""):
            continue
        if message.role != role:
            raise invalid(f"{path}.{field} is for messages of the role {role!r}", f"{path}.{field}")
        turn[field] = read_calls(value, f"{path}.{field}", limits) if field == "tool_calls" else value
    if message.name is not None:
        turn["name"] = message.name
    if (reasoning := message.reasoning_content or message.reasoning) is not None:
        turn["reasoning_content"] = reasoning
    return turn


def _text(message: Message, path: str, limits: Limits) -> str:
    if isinstance(message.content, str):
        return message.content
    if message.content is None:
        if message.role != "assistant":
            raise invalid(f"{path}.content is missing", f"{path}.content")
        return ""
    if len(message.content) > (most := limits.max_parts):
        raise invalid(f"{path}.content has {len(message.content)} parts, at most {most} are allowed", f"{path}.content")
    texts: list[str] = []
    for index, part in enumerate(message.content):
        where = f"{path}.content[{index}]"
        if part.type != "text":
            raise unsupported(f"{where}.type", f"{part.type!r} is no text, and only text is served")
        if part.text is None:
            raise invalid(f"{where}.text is missing", f"{where}.text")
        texts.append(part.text)
    return "\n".join(texts)
