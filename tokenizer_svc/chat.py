"""Conversations: messages as clients send them, as templates want them, and as token ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from shared.chat_template import ChatTemplateError
from tokenizer_svc.api_error import invalid, unsupported
from tokenizer_svc.engine import Engine
from tokenizer_svc.limits import Limits
from tokenizer_svc.prompts import aside, tokenise
from tokenizer_svc.tools.prompting import render
from tokenizer_svc.tools.toolbox import Toolbox
from tokenizer_svc.tools.turns import Turn, read_calls

T = TypeVar("T")

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_RESERVED = {"messages", "tools", "add_generation_prompt"}
_TEXTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
_THOUGHTS = {"thinking": ("thinking", "text"), "reasoning": ("text", "thinking")}
_HERE = "<|the answer goes on here|> "
"""Marks the end of the last message while the template is rendered; its space tells whether the template trims."""


class Part(msgspec.Struct):
    """One part of a message's content."""

    type: str
    text: str | None = None
    refusal: str | None = None
    thinking: str | None = None


class Message(msgspec.Struct):
    """One message of a conversation."""

    role: str
    content: str | list[Part] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None  # the same, as vLLM and OpenRouter call it
    refusal: str | None = None
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
    continues: bool = False,
    add_special_tokens: bool = False,
    may_be_long: bool = False,
) -> list[int]:
    """Token ids of a conversation, through the model's template. Raises ApiError 400.

    ``continues``: the last message is left open. ``may_be_long``: longer than the context.
    """
    card = engine.ready_card()

    def tokens(text: str) -> list[int]:
        limit = None if may_be_long else card
        return tokenise(engine, limit, text, "messages", add_special_tokens=add_special_tokens)

    ids = await render_chat(
        engine,
        messages,
        toolbox,
        add_generation_prompt=add_generation_prompt,
        variables=variables,
        continues=continues,
        then=tokens,
    )
    if not ids:
        raise invalid("messages render to an empty prompt", "messages")
    return ids


async def render_chat(
    engine: Engine,
    messages: Sequence[Message],
    toolbox: Toolbox | None,
    *,
    add_generation_prompt: bool,
    variables: Mapping[str, Any],
    then: Callable[[str], T],
    continues: bool = False,
) -> T:
    """What ``then`` makes of the text of a conversation, where long work is done. Raises ApiError 400.

    ``continues``: the last message is left open.
    """
    if not messages:
        raise invalid("messages is empty: at least one message is needed", "messages")
    if len(messages) > (most := engine.limits.max_messages):
        raise invalid(f"messages has {len(messages)} messages, at most {most} are allowed", "messages")
    if len(variables) > (most := engine.limits.max_template_variables):
        raise invalid(f"chat_template_kwargs has more than {most} entries", "chat_template_kwargs")
    if reserved := sorted(variables.keys() & _RESERVED):
        path = f"chat_template_kwargs.{reserved[0]}"
        raise invalid(f"{path} cannot be set: it has a field of its own", path)
    roles = _roles(engine)
    turns = [_turn(message, f"messages[{index}]", roles, engine.limits) for index, message in enumerate(messages)]
    if continues:
        _open(turns, messages)
    size = sum(len(turn["content"]) for turn in turns) + (0 if toolbox is None else toolbox.size)

    def work() -> T:
        text = render(engine, turns, toolbox, add_generation_prompt=add_generation_prompt, **variables)
        if continues:
            text = _cut(text, len(messages) - 1)
        return then(text)

    try:
        return await aside(engine, size, work)
    except ChatTemplateError as error:
        raise invalid(f"the model's chat template refuses these messages: {error}", "messages") from error
    except LookupError as error:
        raise invalid("this model has no chat template: use /v1/completions", "messages") from error


def check_message(engine: Engine, message: Message, path: str) -> None:
    """Raises ApiError 400 for a message that no conversation can have; ``path`` is where the request has it."""
    _turn(message, path, _roles(engine), engine.limits)


def _roles(engine: Engine) -> Mapping[str, str]:
    """What templates call each role: a developer is the system's, except to templates that know better."""
    template = engine.tokenizer.chat_template
    if template is not None and "developer" in template.literals:
        return {**_ROLES, "developer": "developer"}
    return _ROLES


def _open(turns: Sequence[Turn], messages: Sequence[Message]) -> None:
    """Mark the end of the last message."""
    last, path = turns[-1], f"messages[{len(turns) - 1}]"
    if messages[-1].content is None:
        raise invalid(f"{path}.content is missing: continue_final_message needs text to continue", f"{path}.content")
    if "tool_calls" in last:
        path = f"{path}.tool_calls"
        raise invalid(f"{path}: continue_final_message needs a last message that ends in text", path)
    last["content"] += _HERE


def _cut(text: str, last: int) -> str:
    """A rendered conversation up to the end of its last message, as transformers cuts it."""
    mark = _HERE.rstrip()
    at = text.rfind(mark)
    if at < 0:
        message = f"the model's chat template leaves out messages[{last}]: it cannot be continued"
        raise invalid(message, "continue_final_message")
    return text[:at] if text.startswith(_HERE, at) else text[:at].rstrip()


def _turn(message: Message, path: str, roles: Mapping[str, str], limits: Limits) -> Turn:
    """The message as templates know it."""
    for field, instead in (("function_call", "use tool_calls"), ("audio", "only text is served")):
        if getattr(message, field) not in (None, [], {}, ""):
            raise unsupported(f"{path}.{field}", instead)
    if message.role == "function":
        raise unsupported(f"{path}.role", "the role 'function' is that of an older API: use 'tool'")
    if message.role not in roles:
        raise invalid(f"{path}.role is {message.role!r}: use {', '.join(roles)}", f"{path}.role")
    content = _content(message, path, limits)
    turn: Turn = {"role": roles[message.role], "content": content.text}
    for field, role in (("tool_calls", "assistant"), ("tool_call_id", "tool")):
        value = getattr(message, field)
        if value in (None, [], ""):
            continue
        if message.role != role:
            raise invalid(f"{path}.{field} is for messages of the role {role!r}", f"{path}.{field}")
        turn[field] = read_calls(value, f"{path}.{field}", limits) if field == "tool_calls" else value
    if message.name is not None:
        turn["name"] = message.name
    if (reasoning := message.reasoning_content or message.reasoning or content.thoughts) is not None:
        turn["reasoning_content"] = reasoning
    return turn


class _Content(NamedTuple):
    text: str
    thoughts: str | None = None


def _content(message: Message, path: str, limits: Limits) -> _Content:
    if isinstance(message.content, str):
        return _Content(message.content)
    if message.content is None:
        if message.role != "assistant":
            raise invalid(f"{path}.content is missing", f"{path}.content")
        return _Content(message.refusal or "")
    if len(message.content) > (most := limits.max_parts):
        raise invalid(f"{path}.content has {len(message.content)} parts, at most {most} are allowed", f"{path}.content")
    texts: list[str] = []
    thoughts: list[str] = []
    for index, part in enumerate(message.content):
        where = f"{path}.content[{index}]"
        if part.type in _THOUGHTS and message.role == "assistant":
            thoughts.append(_first_text(part, _THOUGHTS[part.type], where))
        elif part.type in _TEXTS:
            texts.append(_first_text(part, (_TEXTS[part.type],), where))
        else:
            raise unsupported(f"{where}.type", f"{part.type!r} is no text, and only text is served")
    return _Content("\n".join(texts), "\n".join(thoughts) if thoughts else None)


def _first_text(part: Part, fields: Sequence[str], path: str) -> str:
    """The text of a part, in the first of these fields that has any."""
    for field in fields:
        value: str | None = getattr(part, field)
        if value is not None:
            return value
    raise invalid(f"{path}.{fields[0]} is missing", f"{path}.{fields[0]}")
