"""A request of the Responses API on its way to the model: drafted as the chat that it amounts to."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tokenizer_svc.api_error import ApiError
from tokenizer_svc.chat import Message
from tokenizer_svc.draft import Draft, within
from tokenizer_svc.engine import Engine
from tokenizer_svc.openai import chat_tools, draft_chat, encode_conversation, read_chat
from tokenizer_svc.openai_fields import ChatRequest
from tokenizer_svc.reading import HowRead
from tokenizer_svc.responses_api.items import Item
from tokenizer_svc.responses_api.request import ResponsesRequest, chat_body

_TOO_LONG = "context_length_exceeded"


def read_as_chat(request: ResponsesRequest, items: Sequence[Item], engine: Engine) -> ChatRequest:
    """The chat. ``items``: the whole conversation. Raises ApiError 400 or 404."""
    return read_chat(chat_body(request, items, engine.limits, engine.tokenizer.template_variables), engine)


async def count_tokens(request: ResponsesRequest, items: Sequence[Item], engine: Engine) -> int:
    """Tokens of the prompt, none of its turns left out. Raises ApiError."""
    chat = read_as_chat(request, items, engine)
    return len(await encode_conversation(chat, engine, chat_tools(chat, engine), may_be_long=True))


async def draft_response(request: ResponsesRequest, chat: ChatRequest, engine: Engine, how: HowRead) -> list[Draft]:
    """The one sequence to generate, as long as asked or as there is room for. Raises ApiError."""
    try:
        drafts = await draft_chat(chat, engine, how)
    except ApiError as error:
        if error.body.code != _TOO_LONG or request.truncation != "auto":
            raise
        drafts = await _truncated(chat, engine, how, error)
    return drafts if request.max_output_tokens is None else [within(each, request.max_output_tokens) for each in drafts]


async def _truncated(chat: ChatRequest, engine: Engine, how: HowRead, error: ApiError) -> list[Draft]:
    """Without as few of the oldest turns as will do. Raises the error where even the last one is too long."""
    system = [message for message in chat.messages if message.role in ("system", "developer")]
    turns = [message for message in chat.messages if message.role not in ("system", "developer")]
    low, high = 1, len(turns) - 1  # how many to drop: fewer do not help, and one must stay
    found: list[Draft] | None = None
    while low <= high:
        dropped = (low + high) // 2
        kept = [*system, *_without_orphans(turns[dropped:])]
        try:
            found, high = await draft_chat(msgspec.structs.replace(chat, messages=kept), engine, how), dropped - 1
        except ApiError as again:
            if again.body.code != _TOO_LONG:
                raise
            low = dropped + 1
    if found is None:
        raise error
    return found


def _without_orphans(turns: list[Message]) -> list[Message]:
    """Without results of calls that are not there any more, unless there is nothing else."""
    for index, turn in enumerate(turns):
        if turn.role != "tool":
            return turns[index:]
    return turns[-1:]
