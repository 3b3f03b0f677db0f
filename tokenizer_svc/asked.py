"""The three ways to ask for text, read into one form: what to generate, how to answer, for how long to keep it.

Knows nothing of HTTP libraries or streams.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from msgspec import UNSET

from tokenizer_svc.answers import Answer
from tokenizer_svc.anthropic_api.answers import MessageAnswers
from tokenizer_svc.anthropic_api.drafting import draft_messages, read_as_chat
from tokenizer_svc.anthropic_api.request import MessagesRequest, read_messages
from tokenizer_svc.draft import Draft
from tokenizer_svc.engine import Engine
from tokenizer_svc.generate import Generation, draft_generate, read_generate, values_of
from tokenizer_svc.native_answers import NativeAnswers, Shape
from tokenizer_svc.native_scores import text_of
from tokenizer_svc.openai import chat_tools, chat_wants, completion_wants, draft_chat, draft_completion, read_chat
from tokenizer_svc.openai import read_completion as read_completion_body
from tokenizer_svc.openai_answers import ChatAnswers, CompletionAnswers
from tokenizer_svc.openai_fields import ChatRequest, CompletionRequest, OpenAIFields, StreamOptions
from tokenizer_svc.openai_scores import Wanted
from tokenizer_svc.openai_shown import Showing
from tokenizer_svc.prompts import sort_out
from tokenizer_svc.reading import AnswerReader, HowRead, how_read
from tokenizer_svc.reasoning.wish import read_wish
from tokenizer_svc.rendering import Origin, Rendering
from tokenizer_svc.responses_api.answers import ResponseAnswers, ResponseOrigin
from tokenizer_svc.responses_api.drafting import draft_response
from tokenizer_svc.responses_api.drafting import read_as_chat as read_response_as_chat
from tokenizer_svc.responses_api.items import items_of
from tokenizer_svc.responses_api.kept import read_kept
from tokenizer_svc.responses_api.request import ResponsesRequest, read_responses
from tokenizer_svc.structure import Structure

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
GENERATE = "/generate"
MESSAGES = "/v1/messages"
RESPONSES = "/v1/responses"


class Asked(NamedTuple):
    """One request, valid as far as that can be said without its tokens."""

    prefix: str  # of the answer's id, with what separates them
    stream: bool
    resumable: bool
    background: bool
    shares_id: bool  # clients know all choices by the id of the first
    user: str | None
    draft: Callable[[], Awaitable[list[Draft]]]
    rendering: Callable[[Answer, Origin], Rendering]
    model: str | None = None  # as the request names it; None: by its first name
    metadata: Mapping[str, str] = {}  # for the log
    renders_with: Structure | None = None  # a grammar that the rendering needs in its compiled form


Read = Callable[[dict[str, Any], Engine], Asked]
"""Reads a decoded body. Raises ApiError."""


def _chat(body: dict[str, Any], engine: Engine) -> Asked:
    request = read_chat(body, engine)
    how = how_read(engine, chat_tools(request, engine), read_wish(request))
    return Asked(
        prefix=ChatAnswers.prefix,
        stream=bool(request.stream),
        resumable=bool(request.resumable),
        background=bool(request.background),
        shares_id=True,
        user=request.user or request.safety_identifier,
        draft=partial(draft_chat, request, engine, how),
        rendering=partial(_chat_answers, request, engine, how),
        model=request.model,
        metadata=request.metadata or {},
    )


def _chat_answers(request: ChatRequest, engine: Engine, how: HowRead, answer: Answer, origin: Origin) -> Rendering:
    showing = _showing(request, engine, chat_wants(request, engine.limits))
    return ChatAnswers(answer, AnswerReader(answer, how), origin, showing)


def _completion(body: dict[str, Any], engine: Engine) -> Asked:
    request = read_completion_body(body, engine)
    return Asked(
        prefix=CompletionAnswers.prefix,
        stream=bool(request.stream),
        resumable=bool(request.resumable),
        background=bool(request.background),
        shares_id=True,
        user=request.user or request.safety_identifier,
        draft=partial(draft_completion, request, engine),
        rendering=partial(_completion_answers, request, engine),
        model=request.model,
        metadata=request.metadata or {},
    )


def _completion_answers(request: CompletionRequest, engine: Engine, answer: Answer, origin: Origin) -> Rendering:
    showing = _showing(request, engine, completion_wants(request, engine.limits))
    return CompletionAnswers(answer, origin, showing._replace(echo=_echo(request) if request.echo else None))


def _showing(request: OpenAIFields, engine: Engine, scores: Wanted) -> Showing:
    options = request.stream_options or StreamOptions()
    return Showing(
        engine.tokenizer,
        engine.fingerprint,
        include_usage=bool(options.include_usage),
        continuous_usage=bool(options.continuous_usage_stats),
        scores=scores,
        token_ids=bool(request.return_token_ids),
        tokens_as_ids=bool(request.return_tokens_as_token_ids),
        ignores_eos=bool(request.ignore_eos),
        service_tier="default" if request.service_tier is not None else UNSET,
    )


def _echo(request: CompletionRequest) -> Sequence[str | None]:
    """The texts of the prompts as they were sent; None for those that are tokens, or that may be shortened."""
    items = sort_out(request.prompt, "prompt").items
    shortened = request.truncate_prompt_tokens is not None
    return [item if isinstance(item, str) and not shortened else None for item in items]


def _generate(body: dict[str, Any], engine: Engine) -> Asked:
    generation = read_generate(body, engine)
    request = generation.request
    return Asked(
        prefix=NativeAnswers.prefix,
        stream=bool(request.stream),
        resumable=bool(request.resumable),
        background=bool(request.background),
        shares_id=False,
        user=None,
        model=request.model,
        draft=partial(draft_generate, generation, engine),
        rendering=partial(_native_answers, generation, engine),
        renders_with=generation.values_grammar,
    )


def _native_answers(generation: Generation, engine: Engine, answer: Answer, origin: Origin) -> Rendering:
    shape = Shape(
        is_single=generation.is_single,
        is_incremental=generation.is_incremental,
        names=[names[0] for names in generation.names],
        wanted=generation.wanted,
        text_of=partial(text_of, engine.tokenizer),
        open_values=values_of(generation, engine),
    )
    return NativeAnswers(answer, origin.elapsed, shape)


def _messages(body: dict[str, Any], engine: Engine) -> Asked:
    request = read_messages(body)
    chat = read_as_chat(request, engine)
    how = how_read(engine, chat_tools(chat, engine))
    return Asked(
        prefix=MessageAnswers.prefix,
        model=chat.model,
        stream=bool(request.stream),
        resumable=bool(request.resumable),
        background=bool(request.background),
        shares_id=True,
        user=chat.user,
        draft=partial(draft_messages, request, chat, engine, how),
        rendering=partial(_message_answers, request, how),
    )


def _message_answers(request: MessagesRequest, how: HowRead, answer: Answer, origin: Origin) -> Rendering:
    reader = AnswerReader(answer, how)
    shows_thoughts = request.thinking is None or request.thinking.display != "omitted"
    return MessageAnswers(answer, reader, origin.model, max_tokens=request.max_tokens, shows_thoughts=shows_thoughts)


def _responses(body: dict[str, Any], engine: Engine) -> Asked:
    kept = read_kept(body)
    request = read_responses(kept.request, engine.limits)
    items = [*kept.history, *items_of(request.input, engine.limits)]
    chat = read_response_as_chat(request, items, engine)
    how = how_read(engine, chat_tools(chat, engine))
    return Asked(
        prefix=ResponseAnswers.prefix,
        model=chat.model,
        stream=bool(request.stream),
        resumable=bool(request.resumable),
        background=bool(request.background),
        shares_id=True,
        user=chat.user or chat.safety_identifier,
        metadata=request.metadata or {},
        draft=partial(draft_response, request, chat, engine, how),
        rendering=partial(_response_answers, request, how),
    )


def _response_answers(request: ResponsesRequest, how: HowRead, answer: Answer, origin: Origin) -> Rendering:
    where = ResponseOrigin(origin.model, origin.created, origin.elapsed, how.engine.tokenizer)
    return ResponseAnswers(answer, AnswerReader(answer, how), request, where)


DIRECT: dict[str, Read] = {CHAT: _chat, COMPLETIONS: _completion, GENERATE: _generate, MESSAGES: _messages}
"""By the path of the API: bodies as clients send them."""

READERS: dict[str, Read] = DIRECT | {RESPONSES: _responses}
"""By the path of the API: bodies as they are kept, which for responses is more than what clients send."""
