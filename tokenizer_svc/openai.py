"""Requests of OpenAI's API, chat and completions: what their fields ask of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from tokenizer_svc import unsupported
from tokenizer_svc.api_error import ApiError, invalid, of_validation
from tokenizer_svc.api_error import unsupported as refused
from tokenizer_svc.chat import encode_chat
from tokenizer_svc.draft import Draft
from tokenizer_svc.engine import Engine
from tokenizer_svc.limits import Limits
from tokenizer_svc.openai_fields import ChatRequest, CompletionRequest, OpenAIFields
from tokenizer_svc.openai_scores import Wanted
from tokenizer_svc.prompts import LengthNames, Truncation, answer_length, encode, read_truncation, sort_out
from tokenizer_svc.reading import HowRead
from tokenizer_svc.sampling import Bounds, Vocabulary, resolve
from tokenizer_svc.score_bound import check_scores
from tokenizer_svc.structure import Structure, check_structured
from tokenizer_svc.template_variables import variables_of
from tokenizer_svc.tools.grammar import beside_form, read_structure_with
from tokenizer_svc.tools.toolbox import Toolbox, read_tools
from tokenizer_svc.tracing import current

COMPLETION_TOKENS = 16  # OpenAI's default for completions
_TIERS = ("auto", "default")

_Request = TypeVar("_Request", bound=OpenAIFields)


def read_chat(body: dict[str, Any], engine: Engine) -> ChatRequest:
    """The request in a decoded body. Raises ApiError 400 or 404."""
    unsupported.refuse(body, unsupported.CHAT)
    request = _convert(body, ChatRequest)
    _check(request, engine)
    if request.continue_final_message and request.add_generation_prompt:
        message = "the answer either continues the last message or is a message of its own: send one of them"
        raise invalid(f"continue_final_message and add_generation_prompt: {message}", "continue_final_message")
    if request.top_logprobs and not request.logprobs:
        raise invalid("top_logprobs is for answers with log-probabilities: set logprobs to true", "top_logprobs")
    return request


def read_completion(body: dict[str, Any], engine: Engine) -> CompletionRequest:
    """The request in a decoded body. Raises ApiError 400 or 404."""
    unsupported.refuse(body, unsupported.COMPLETIONS)
    request = _convert(body, CompletionRequest)
    _check(request, engine)
    return request


def chat_tools(request: ChatRequest, engine: Engine) -> Toolbox | None:
    """The tools of a chat, None where it has none to call. Raises ApiError 400."""
    return beside_form(read_tools(request, engine.limits), request)


async def draft_chat(request: ChatRequest, engine: Engine, how: HowRead) -> list[Draft]:
    """The sequences that a chat request asks for. Raises ApiError."""
    toolbox = how.toolbox
    structure = _structure(request, engine, toolbox)
    asked, name = request.max_tokens, "max_tokens"
    if request.max_completion_tokens is not None:
        asked, name = request.max_completion_tokens, "max_completion_tokens"
    truncation = read_truncation(request.truncate_prompt_tokens, request.truncation_side, engine.limits)
    ids = await encode_conversation(request, engine, toolbox, may_be_long=truncation is not None)
    length = _Length(asked, None, 1, LengthNames("messages", name))
    wanted = chat_wants(request, engine.limits)
    drafts = _drafts(request, engine, [ids], length, truncation, wanted, how.obeyed(structure, ids))
    return [draft._replace(display=how.shown(draft.display)) for draft in drafts]


async def encode_conversation(
    request: ChatRequest, engine: Engine, toolbox: Toolbox | None, *, may_be_long: bool
) -> list[int]:
    """Token ids of the prompt of a chat. Raises ApiError."""
    continues = bool(request.continue_final_message)
    return await encode_chat(
        engine,
        request.messages,
        toolbox,
        add_generation_prompt=not continues and request.add_generation_prompt is not False,
        continues=continues,
        variables=variables_of(request, engine.tokenizer),
        add_special_tokens=bool(request.add_special_tokens),
        may_be_long=may_be_long,
    )


async def draft_completion(request: CompletionRequest, engine: Engine) -> list[Draft]:
    """The sequences that a completion request asks for. Raises ApiError."""
    structure = _structure(request, engine)
    prompts = sort_out(request.prompt, "prompt")
    check_sequences(len(prompts.items), request.n, "prompt", engine)
    truncation = read_truncation(request.truncate_prompt_tokens, request.truncation_side, engine.limits)
    encoded = await encode(
        engine,
        prompts,
        "prompt",
        add_special_tokens=request.add_special_tokens is not False,
        may_be_long=truncation is not None,
    )
    length = _Length(request.max_tokens, COMPLETION_TOKENS, 0, LengthNames("prompt", "max_tokens"))
    return _drafts(request, engine, encoded, length, truncation, completion_wants(request, engine.limits), structure)


def chat_wants(request: ChatRequest, limits: Limits) -> Wanted:
    """The log-probabilities that a chat request asks for. Raises ApiError 400."""
    top = Bounds().integer("top_logprobs", request.top_logprobs, 0, limits.max_logprobs, 0)
    return _wanted(request, limits, top if request.logprobs else None)


def completion_wants(request: CompletionRequest, limits: Limits) -> Wanted:
    """The log-probabilities that a completion request asks for. Raises ApiError 400."""
    top = (
        None if request.logprobs is None else Bounds().integer("logprobs", request.logprobs, 0, limits.max_logprobs, 0)
    )
    return _wanted(request, limits, top)._replace(echo=bool(request.echo) and top is not None)


def check_sequences(prompts: int, n: int | None, name: str, engine: Engine) -> None:
    """Raises ApiError 400 when a request asks for more sequences than allowed."""
    most = engine.limits.max_sequences
    if prompts * max(n or 1, 1) > most:
        raise invalid(f"{prompts} prompts times n={n or 1}: at most {most} answers to one request", name)


def check_model(name: str | None, engine: Engine) -> None:
    """Raises ApiError 404 when a request names another model than the one served."""
    is_served = name is None or name in engine.models
    if (trace := current()) is not None:
        trace.asks(engine.model if name is None else name, is_served=is_served)
    if not is_served:
        served = ", ".join(map(repr, engine.models))
        message = f"the model {name!r} does not exist here; this server serves {served}"
        raise ApiError(404, message, param="model", code="model_not_found")


def _check(request: OpenAIFields, engine: Engine) -> None:
    check_model(request.model, engine)
    if request.service_tier not in (None, *_TIERS):
        raise refused("service_tier", f"there is one tier, {' or '.join(map(repr, _TIERS))}: use priority")
    if request.stream and request.prompt_logprobs is not None:
        raise invalid("prompt_logprobs is for answers that are no stream: set stream to false", "prompt_logprobs")
    options = request.stream_options
    if options is None:
        return
    if not request.stream:
        raise invalid("stream_options is for streams: set stream to true", "stream_options")
    if options.include_obfuscation:
        raise refused("stream_options.include_obfuscation", "chunks are as long as their text")


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


def _wanted(request: OpenAIFields, limits: Limits, answer: int | None) -> Wanted:
    bounds = Bounds()
    prompt = request.prompt_logprobs
    if prompt is not None:
        bounds.integer("prompt_logprobs", prompt, 0, limits.max_logprobs, 0)
    ids = request.logprob_token_ids
    if ids is None:
        return Wanted(answer, prompt)
    name = "logprob_token_ids"
    bounds.length(name, len(ids), limits.max_logprob_ids, "ids")
    if answer is None or not ids:
        raise invalid(f"{name} is a list of token ids, for answers with log-probabilities: ask for logprobs, too", name)
    return Wanted(answer, prompt, ids=tuple(dict.fromkeys(ids)))


class _Length(NamedTuple):
    """How long answers may be."""

    asked: int | None
    default: int | None  # None: all that fit
    least: int
    names: LengthNames


def _check_labels(request: OpenAIFields, limits: Limits) -> None:
    bounds = Bounds()
    for name in ("user", "safety_identifier", "prompt_cache_key"):
        bounds.label(name, getattr(request, name), limits)
    metadata = request.metadata or {}
    bounds.length("metadata", len(metadata), limits.max_metadata, "entries")
    for key, value in metadata.items():
        bounds.length("metadata", len(key), limits.max_metadata_key, "characters in one key")
        bounds.length("metadata", len(value), limits.max_label, "characters in one value")


def _drafts(
    request: OpenAIFields,
    engine: Engine,
    prompts: Sequence[list[int]],
    length: _Length,
    truncation: Truncation | None,
    wanted: Wanted,
    structure: Structure | None,
) -> list[Draft]:
    card = engine.ready_card()
    bounds = Bounds()
    limits = engine.limits
    namespace = bounds.label("cache_salt", request.cache_salt, limits)
    _check_labels(request, limits)
    for id in wanted.ids:
        bounds.integer("logprob_token_ids", id, 0, card.vocab_size - 1, 0)
    priority = bounds.integer("priority", request.priority, -limits.priority, limits.priority, 0)
    timeout = bounds.above_zero("timeout", request.timeout, limits.max_timeout_s, 0)
    drafts: list[Draft] = []
    for index, prompt in enumerate(prompts):
        ids = prompt if truncation is None else truncation.of(prompt, card, length.asked or length.default or 1)
        choosing = resolve(
            request,
            bounds,
            limits,
            Vocabulary(card.vocab_size, engine.tokenizer.eos_ids),
            max_tokens=answer_length(card, len(ids), length.asked, length.default, length.names, least=length.least),
            min_tokens=request.min_tokens,
            seed=request.seed,
            include_stop=bool(request.include_stop_str_in_output),
            grammar=structure.grammar if structure else None,
            scoring=wanted.scoring(len(ids)),
        )
        drafts += (
            Draft(index, ids, choosing.seeded(choice), choosing.display, namespace, priority, structure, timeout)
            for choice in range(choosing.n)
        )
    check_scores(drafts, "logprobs" if wanted.prompt is None else "prompt_logprobs", limits)
    return drafts
