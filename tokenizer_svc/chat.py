"""Conversations: messages as clients send them, as templates want them, and as token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from shared.chat_template import ChatTemplateError
from tokenizer_svc.api_error import invalid, unsupported
from tokenizer_svc.engine import Engine
from tokenizer_svc.prompts import aside, tokenise

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
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
    tool_calls: Any = None
    tool_call_id: Any = None
    function_call: Any = None
    audio: Any = None


async def encode_chat(
    engine: Engine, messages: Sequence[Message], *, add_generation_prompt: bool, variables: Mapping[str, Any]
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
    plain = [_plain(message, f"messages[{index}]") for index, message in enumerate(messages)]

    def work() -> list[int]:
        text = engine.tokenizer.render_chat(plain, add_generation_prompt=add_generation_prompt, **variables)
        return tokenise(engine, card, text, "messages", add_special_tokens=False)

    try:
        ids = await aside(engine, sum(len(message["content"]) for message in plain), work)
    except ChatTemplateError as error:
        raise invalid(f"the model's chat template refuses these messages: {error}", "messages") from error
    except LookupError as error:
        raise invalid("this model has no chat template: use /v1/completions", "messages") from error
    if not ids:
        raise invalid("messages render to an empty prompt", "messages")
    return ids


def _plain(message: Message, path: str) -> dict[str, str]:
    """The message as templates know it."""
    for field in ("tool_calls", "tool_call_id", "function_call", "audio"):
        if getattr(message, field) not in (None, [], {}, ""):
            raise unsupported(f"{path}.{field}")
    if message.role in {"tool", "function"}:
        raise unsupported(f"{path}.role", f"messages of the role {message.role!r} need tools, which are not served")
    if message.role not in _ROLES:
        raise invalid(f"{path}.role is {message.role!r}: use {', '.join(_ROLES)}", f"{path}.role")
    plain = {"role": _ROLES[message.role], "content": _text(message, path)}
    if message.name is not None:
        plain["name"] = message.name
    if message.reasoning_content is not None:
        plain["reasoning_content"] = message.reasoning_content
    return plain


def _text(message: Message, path: str) -> str:
    if isinstance(message.content, str):
        return message.content
    if message.content is None:
        if message.role != "assistant":
            raise invalid(f"{path}.content is missing", f"{path}.content")
        return ""
    texts: list[str] = []
    for index, part in enumerate(message.content):
        where = f"{path}.content[{index}]"
        if part.type != "text":
            raise unsupported(f"{where}.type", f"{part.type!r} is no text, and only text is served")
        if part.text is None:
            raise invalid(f"{where}.text is missing", f"{where}.text")
        texts.append(part.text)
    return "\n".join(texts)
