"""Requests of OpenAI's API, chat and completions: their fields, and what they ask of the model."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from tokenizer_svc import unsupported
from tokenizer_svc.api_error import ApiError, invalid, of_validation
from tokenizer_svc.api_error import unsupported as refused
from tokenizer_svc.chat import Message, encode_chat
from tokenizer_svc.draft import Draft
from tokenizer_svc.engine import Engine
from tokenizer_svc.prompts import LengthNames, RawPrompt, answer_length, encode, sort_out
from tokenizer_svc.reading import HowRead
from tokenizer_svc.sampling import Bounds, SamplingFields, Vocabulary, resolve
from tokenizer_svc.structure import Structure, check_structured
from tokenizer_svc.tools.grammar import read_structure_with
from tokenizer_svc.tools.toolbox import Toolbox

_COMPLETION_TOKENS = 16  # OpenAI's default for completions


class StreamOptions(msgspec.Struct):
    """What a stream carries besides text."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    continuous_usage_stats: bool | None = None


class OpenAIFields(SamplingFields, kw_only=True):
    """Fields of both requests."""

    model: str | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    seed: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    include_stop_str_in_output: bool | None = None
    user: str | None = None
    cache_salt: str | None = None
    priority: int | None = None
    resumable: bool | None = None
    background: bool | None = None
    timeout: float | None = None

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class ChatRequest(OpenAIFields, kw_only=True):
    """POST /v1/chat/completions."""

    messages: list[Message]
    max_completion_tokens: int | None = None
    add_generation_prompt: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    separate_reasoning: bool | None = None
    include_reasoning: bool | None = None
    stream_reasoning: bool | None = None


class CompletionRequest(OpenAIFields, kw_only=True):
    """POST /v1/completions."""

    prompt: RawPrompt
    add_special_tokens: bool | None = None


_Request = TypeVar("_Request", bound=OpenAIFields)


def read_chat(body: dict[str, Any], engine: Engine) -> ChatRequest:
    """The request in a decoded body. Raises ApiError 400 or 404."""
    unsupported.refuse(body, unsupported.CHAT)
    request = _convert(body, ChatRequest)
    _check(request, engine)
    return request


def read_completion(body: dict[str, Any], engine: Engine) -> CompletionRequest:
    """The request in a decoded body. Raises ApiError 400 or 404."""
    unsupported.refuse(body, unsupported.COMPLETIONS)
    request = _convert(body, CompletionRequest)
    _check(request, engine)
    return request


async def draft_chat(request: ChatRequest, engine: Engine, how: HowRead) -> list[Draft]:
    """The sequences that a chat request asks for. Raises ApiError."""
    toolbox = how.toolbox
    structure = _structure(request, engine, toolbox)
    ids = await encode_chat(
        engine,
        request.messages,
        toolbox,
        add_generation_prompt=request.add_generation_prompt is not False,
        variables=request.chat_template_kwargs or {},
    )
    asked, name = request.max_tokens, "max_tokens"
    if request.max_completion_tokens is not None:
        asked, name = request.max_completion_tokens, "max_completion_tokens"
    drafts = _drafts(request, engine, [ids], asked, None, LengthNames("messages", name), how.obeyed(structure, ids))
    return [draft._replace(display=how.shown(draft.display)) for draft in drafts]


async def draft_completion(request: CompletionRequest, engine: Engine) -> list[Draft]:
    """The sequences that a completion request asks for. Raises ApiError."""
    structure = _structure(request, engine)
    prompts = sort_out(request.prompt, "prompt")
    check_sequences(len(prompts.items), request.n, "prompt", engine)
    encoded = await encode(engine, prompts, "prompt", add_special_tokens=request.add_special_tokens is not False)
    names = LengthNames("prompt", "max_tokens")
    return _drafts(request, engine, encoded, request.max_tokens, _COMPLETION_TOKENS, names, structure)


def check_sequences(prompts: int, n: int | None, name: str, engine: Engine) -> None:
    """Raises ApiError 400 when a request asks for more sequences than allowed."""
    most = engine.limits.max_sequences
    if prompts * max(n or 1, 1) > most:
        raise invalid(f"{prompts} prompts times n={n or 1}: at most {most} answers to one request", name)


def check_model(name: str | None, engine: Engine) -> None:
    """Raises ApiError 404 when a request names another model than the one served."""
    if name is not None and name != engine.model:
        message = f"the model {name!r} does not exist here; this server serves {engine.model!r}"
        raise ApiError(404, message, param="model", code="model_not_found")


def _check(request: OpenAIFields, engine: Engine) -> None:
    check_model(request.model, engine)
    options = request.stream_options
    if options is None:
        return
    if not request.stream:
        raise invalid("stream_options is for streams: set stream to true", "stream_options")
    for name in ("include_obfuscation", "continuous_usage_stats"):
        if getattr(options, name):
            raise refused(f"stream_options.{name}")


def _convert(body: dict[str, Any], kind: type[_Request]) -> _Request:
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise of_validation(error) from error


def _structure(request: OpenAIFields, engine: Engine, toolbox: Toolbox | None = None) -> Structure | None:
    structure = read_structure_with(toolbox, request, engine.tool_format)
    if structure is not None:
        check_structured(structure, engine.ready_card())
    return structure


def _drafts(
    request: OpenAIFields,
    engine: Engine,
    prompts: list[list[int]],
    asked: int | None,
    default: int | None,
    names: LengthNames,
    structure: Structure | None,
) -> list[Draft]:
    card = engine.ready_card()
    bounds = Bounds()
    limits = engine.limits
    namespace = bounds.label("cache_salt", request.cache_salt, limits)
    bounds.label("user", request.user, limits)
    priority = bounds.integer("priority", request.priority, -limits.priority, limits.priority, 0)
    timeout = bounds.above_zero("timeout", request.timeout, limits.max_timeout_s, 0)
    drafts: list[Draft] = []
    for index, ids in enumerate(prompts):
        choosing = resolve(
            request,
            bounds,
            limits,
            Vocabulary(card.vocab_size, engine.tokenizer.eos_ids),
            max_tokens=answer_length(card, len(ids), asked, default, names),
            min_tokens=request.min_tokens,
            seed=request.seed,
            include_stop=bool(request.include_stop_str_in_output),
            grammar=structure.grammar if structure else None,
        )
        drafts += (
            Draft(index, ids, choosing.seeded(choice), choosing.display, namespace, priority, structure, timeout)
            for choice in range(choosing.n)
        )
    return drafts
