"""The tokens of a conversation that grows: what the model's own template adds with each message.

The template renders all messages each time, and what is new of its text is tokenised. Where the text does not begin
with what was there before (templates that drop old thoughts, or trim what was written), all of it is tokenised anew.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from tokenizer_svc.api_error import ApiError
from tokenizer_svc.chat import Message, render_chat
from tokenizer_svc.contexts.state import Conversation, State
from tokenizer_svc.contexts.tokens import Written, opening
from tokenizer_svc.engine import Engine
from tokenizer_svc.parts import Reply, reply_of
from tokenizer_svc.reasoning.formats import opening_of
from tokenizer_svc.reasoning.stream import ReasoningStream
from tokenizer_svc.tools.toolbox import Toolbox, read_tools

_LEAD = 256  # characters, more than a mark of reasoning and the blank space after it ever take


class ToolWish(NamedTuple):
    """The tools of a context, and which of them a part may call."""

    tools: list[Any] | None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None


def toolbox_of(engine: Engine, state: State, choice: Any = None, *, is_parallel: bool | None = None) -> Toolbox | None:
    """Raises ApiError 400."""
    return read_tools(ToolWish(list(state.tools), choice, is_parallel), engine.limits) if state.tools else None


async def up_to_date(engine: Engine, state: State) -> State:
    """The state with tokens for all of its messages. Raises ApiError 400 where the template refuses them."""
    chat = state.chat
    if chat is None or not chat.is_due:
        return state
    is_answer = chat.role == "assistant"
    content = chat.content
    said = chat.messages if is_answer else chat.so_far
    messages = [msgspec.convert(message, Message) for message in said]

    def grown(text: str) -> tuple[str, Written, str]:
        whole = text + content if is_answer else text
        return whole, _grown(engine, state, whole), text[-_LEAD:]

    shown, written, lead = await render_chat(
        engine,
        messages,
        toolbox_of(engine, state),
        add_generation_prompt=is_answer,
        variables=state.variables,
        continues=not is_answer and chat.role is not None,
        then=grown,
    )
    chat = msgspec.structs.replace(chat, shown=shown, lead=lead, is_due=False)
    return msgspec.structs.replace(state, written=written, chat=chat)


async def up_to_date_if_possible(engine: Engine, state: State) -> State:
    """The same; a conversation that is not one yet, as the template sees it, stays as it is."""
    try:
        return await up_to_date(engine, state)
    except ApiError as error:
        if error.body.param != "messages" or error.body.code is not None:
            raise
        return state


def _grown(engine: Engine, state: State, text: str) -> Written:
    before = state.chat.shown if state.chat is not None else ""
    if before and text.startswith(before):
        return state.written.with_text(text[len(before) :], engine.tokenizer)
    return opening(engine.tokenizer, framed=False).with_text(text, engine.tokenizer)


def closed(engine: Engine, state: State, chat: Conversation) -> State:
    """The state without an open message: what the model wrote in it is told apart, as in a chat."""
    message: dict[str, Any] = {"role": chat.role, "content": chat.content}
    if chat.is_generated:
        reply = Reply(chat.thoughts, chat.plain, ()) if chat.calls else _read(engine, chat)
        message["content"] = reply.content or (None if chat.calls else "")
        if reply.reasoning:
            message["reasoning_content"] = reply.reasoning
        if chat.calls:
            message["tool_calls"] = list(chat.calls)
    return msgspec.structs.replace(state, chat=chat.ended(message))


def _read(engine: Engine, chat: Conversation) -> Reply:
    """A message of the model's that calls nothing: thoughts and content, wherever program and model took turns."""
    if (marks := engine.reasoning) is None:
        return Reply("", chat.content, ())
    stream = ReasoningStream(marks, opening_of(chat.lead, marks))
    return reply_of([*stream.push(chat.content), *stream.finish()])
