"""A request of Anthropic's API on its way to the model: drafted as the chat that it amounts to."""

from __future__ import annotations

from tokenizer_svc.anthropic_api.request import MessagesCountRequest, MessagesRequest, chat_body
from tokenizer_svc.api_error import invalid
from tokenizer_svc.draft import Draft, within
from tokenizer_svc.engine import Engine
from tokenizer_svc.openai import chat_tools, draft_chat, encode_conversation, read_chat
from tokenizer_svc.openai_fields import ChatRequest
from tokenizer_svc.reading import HowRead


def read_as_chat(request: MessagesCountRequest, engine: Engine) -> ChatRequest:
    """The chat. Raises ApiError 400 or 404."""
    return read_chat(chat_body(request, engine.limits), engine)


async def draft_messages(request: MessagesRequest, chat: ChatRequest, engine: Engine, how: HowRead) -> list[Draft]:
    """The one sequence to generate, as long as asked or as there is room for. Raises ApiError."""
    if request.max_tokens < 0:
        raise invalid(f"max_tokens must be at least 0, not {request.max_tokens}", "max_tokens")
    drafts = await draft_chat(chat, engine, how)
    return [within(draft, request.max_tokens) for draft in drafts]


async def count_tokens(request: MessagesCountRequest, engine: Engine) -> int:
    """Tokens of the prompt. Raises ApiError."""
    chat = read_as_chat(request, engine)
    toolbox = chat_tools(chat, engine)
    return len(await encode_conversation(chat, engine, toolbox, may_be_long=True))
