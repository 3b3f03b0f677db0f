"""A Gen as a request of OpenAI's API, in a server's dialect. Pure; what the server cannot do is refused here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rootstream.lang.backends.dialects import Dialect, strict
from rootstream.lang.calls import Call, CallError, Unsupported
from rootstream.lang.messages import messages_of
from rootstream.lang.parts import Gen, Message, Open, Part, Text

COMPLETIONS, CHATS = "/v1/completions", "/v1/chat/completions"
CHOICE = "choice"
"""Under which a choice is wrapped where JSON is the only structure that a server knows."""

_ALWAYS = ("temperature", "top_p", "frequency_penalty", "presence_penalty", "seed", "stop", "logit_bias")
_SOMETIMES = ("top_k", "min_p", "repetition_penalty", "min_tokens", "stop_token_ids", "stop_regex", "ignore_eos")
_ELSEWHERE = "ask a rootstream server by rs.Server, or name the server's dialect to rs.OpenAI if it knows this"


def unsupported(dialect: Dialect, what: str, name: str, instead: str = _ELSEWHERE) -> Unsupported:
    return Unsupported(f"{name!r}: {dialect.name} is not known to do {what}: {instead}")


def is_chat(said: Sequence[Part]) -> bool:
    return any(isinstance(part, Open | Message) for part in said)


def text_of(said: Sequence[Part], name: str) -> str:
    """A raw text. Raises CallError for what is none."""
    if odd := next((part for part in said if not isinstance(part, Text)), None):
        raise CallError(f"{name!r}: a {type(odd).__name__.lower()} stands outside of messages")
    return "".join(part.text for part in said if isinstance(part, Text))


def messages_before(said: Sequence[Part], dialect: Dialect, name: str) -> tuple[list[dict[str, Any]], bool]:
    """The messages to be sent, and whether the answer goes on with the last one.

    Raises CallError where nothing can be generated, Unsupported where the server cannot go on.
    """
    try:
        messages = messages_of(said)
    except ValueError as error:
        raise CallError(f"{name!r}: {error}") from error
    if not _is_open(said):
        raise CallError(f"{name!r} stands between messages: generate in the assistant's, as in rs.assistant(rs.gen(…))")
    last = messages[-1]
    if last["role"] != "assistant":
        raise CallError(f"{name!r} stands in the {last['role']}'s message: models write the assistant's only")
    if not last["content"]:
        return messages[:-1], False
    if dialect.continues is None:
        instead = f"let {name!r} begin its message, or {_ELSEWHERE}"
        raise unsupported(dialect, "going on with what the assistant has said", name, instead)
    return messages, True


def _is_open(said: Sequence[Part]) -> bool:
    last = next((part for part in reversed(said) if not isinstance(part, Text)), None)
    return isinstance(last, Open)


def request(call: Call, gen: Gen, said: Sequence[Part], dialect: Dialect) -> tuple[str, dict[str, Any]]:
    """The route, and the body without the model. Raises CallError, Unsupported among them."""
    body = sampling(gen, dialect)
    if not is_chat(said):
        if call.tools:
            raise CallError(f"{gen.name!r}: tools are for conversations: use rs.user and rs.assistant")
        body |= {"prompt": text_of(said, gen.name), **_raw_structure(gen, dialect)}
        if gen.max_tokens is not None:
            body["max_tokens"] = gen.max_tokens
        if gen.logprobs:
            body["logprobs"] = gen.top_logprobs or 0
        return COMPLETIONS, body
    messages, continues = messages_before(said, dialect, gen.name)
    body |= {"messages": messages, **_chat_structure(gen, dialect)}
    if continues:
        body |= dialect.continues or {}
    body |= template(call, dialect, gen.name)
    if gen.max_tokens is not None:
        body[dialect.max_tokens] = gen.max_tokens
    if gen.logprobs:
        body |= {"logprobs": True, "top_logprobs": gen.top_logprobs or 0}
    return CHATS, body


def template(call: Call, dialect: Dialect, name: str) -> dict[str, Any]:
    """What of a chat is the same at each of its calls."""
    body: dict[str, Any] = {"tools": call.tools} if call.tools else {}
    if call.template_kwargs:
        if not dialect.template_kwargs:
            raise unsupported(dialect, "variables of chat templates", name)
        body["chat_template_kwargs"] = call.template_kwargs
    return body


def sampling(gen: Gen, dialect: Dialect) -> dict[str, Any]:
    """The fields about drawing. Raises Unsupported."""
    body: dict[str, Any] = {field: value for field in _ALWAYS if (value := getattr(gen, field)) not in (None, ())}
    for field in _SOMETIMES:
        value = getattr(gen, field)
        if value in (None, (), False):
            continue
        if field not in dialect.sampling:
            raise unsupported(dialect, field, gen.name)
        body[field] = value
    if gen.n != 1:
        body["n"] = gen.n
    if gen.tool_choice is not None:
        body["tool_choice"] = gen.tool_choice
    return body


def _raw_structure(gen: Gen, dialect: Dialect) -> Mapping[str, Any]:
    if gen.json_schema is not None:
        if dialect.raw_schema is None:
            raise unsupported(dialect, "JSON of a schema outside of chats", gen.name)
        return dialect.raw_schema(gen.json_schema)
    if gen.choices and dialect.choices is None:
        raise unsupported(dialect, "choices outside of chats", gen.name)
    return _structure(gen, dialect)


def _chat_structure(gen: Gen, dialect: Dialect) -> Mapping[str, Any]:
    schema = gen.json_schema
    if schema is None and wraps_choices(gen, dialect):
        schema = {
            "type": "object",
            "properties": {CHOICE: {"type": "string", "enum": list(gen.choices)}},
            "required": [CHOICE],
            "additionalProperties": False,
        }
    if schema is None:
        return _structure(gen, dialect)
    if dialect.strict_schemas:
        schema = strict(schema)
    named = {"name": "answer", "schema": schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def wraps_choices(gen: Gen, dialect: Dialect) -> bool:
    """Whether choices are asked for as JSON, from which the choice has to be taken."""
    return bool(gen.choices) and dialect.choices is None


def _structure(gen: Gen, dialect: Dialect) -> Mapping[str, Any]:
    """Structures for which OpenAI's API has no words."""
    if gen.regex is not None:
        if dialect.regex is None:
            raise unsupported(dialect, "regular expressions", gen.name)
        return dialect.regex(gen.regex)
    if gen.grammar is not None:
        if dialect.grammar is None:
            raise unsupported(dialect, "grammars", gen.name)
        return dialect.grammar(gen.grammar)
    if gen.choices and dialect.choices is not None:
        return dialect.choices(gen.choices)
    return {}
