"""Requests of the native API, /generate, with SGLang's fields and our templates.

Sources: SGLang's documentation of its native API and sampling parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from shared.protocol import Jump, ModelCard
from tokenizer_svc import unsupported
from tokenizer_svc.api_error import invalid, of_validation
from tokenizer_svc.draft import Draft
from tokenizer_svc.engine import Engine
from tokenizer_svc.native_names import Names, read_names
from tokenizer_svc.native_scores import ScoreFields, Wanted, check_wanted, read_wanted
from tokenizer_svc.openai import check_model, check_sequences
from tokenizer_svc.prompts import LengthNames, Prompts, answer_length, encode
from tokenizer_svc.sampling import Bounds, SamplingFields, Vocabulary, resolve
from tokenizer_svc.score_bound import check_scores
from tokenizer_svc.structure import Structure, check_structured, read_jump, read_structure
from tokenizer_svc.template import Template, read_template
from tokenizer_svc.values import Values

NEW_TOKENS = 128  # SGLang's default
_OWN_NAMES = {"min_tokens": "min_new_tokens", "seed": "sampling_seed"}


class SamplingParams(SamplingFields, kw_only=True):
    """The ``sampling_params`` of one prompt."""

    max_new_tokens: int | None = None
    min_new_tokens: int | None = None
    sampling_seed: int | None = None


class GenerateRequest(ScoreFields, kw_only=True):
    """POST /generate."""

    text: str | list[str] | None = None
    input_ids: list[int | list[int]] | None = None
    segments: list[Any] | None = None
    sampling_params: SamplingParams | list[SamplingParams] | None = None
    rid: str | list[str] | None = None  # the client's own ids of its sequences
    stream: bool | None = None
    stream_output: bool | None = None  # each event has what is new, not all so far
    incremental_streaming_output: bool | None = None  # the same, as SGLang calls it now
    model: str | None = None
    cache_salt: str | None = None
    priority: int | None = None
    resumable: bool | None = None
    background: bool | None = None
    timeout: float | None = None


class Generation(msgspec.Struct):
    """A request, and whether its answer is one object or a list of them."""

    request: GenerateRequest
    prompts: Prompts
    params: list[SamplingParams]
    template: Template | None
    wanted: list[Wanted | None]  # of log-probabilities, by prompt
    names: list[Names]  # by sequence; none where the client gave none

    @property
    def is_single(self) -> bool:
        return not self.prompts.is_batch and (self.params[0].n or 1) == 1

    @property
    def is_incremental(self) -> bool:
        return bool(self.request.stream_output or self.request.incremental_streaming_output)

    @property
    def values_grammar(self) -> Structure | None:
        """The grammar that tells the values of a template's parts. Raises ApiError 400."""
        return None if self.template is None else self.template.structure(Jump.CANONICAL)


def read_generate(body: dict[str, Any], engine: Engine) -> Generation:
    """The request in a decoded body. Raises ApiError 400 or 404."""
    unsupported.refuse(body, unsupported.GENERATE)
    raw = body.get("sampling_params")
    for index, params in enumerate(raw if isinstance(raw, list) else [raw]):
        if isinstance(params, dict):
            prefix = f"sampling_params[{index}]." if isinstance(raw, list) else "sampling_params."
            unsupported.refuse(params, unsupported.SAMPLING_PARAMS, prefix)
    try:
        request = msgspec.convert(body, GenerateRequest)
    except msgspec.ValidationError as error:
        raise of_validation(error) from error
    check_model(request.model, engine)
    template = None
    if request.segments is not None:
        has_prompt = request.text is not None or request.input_ids is not None
        template = read_template(request.segments, engine.limits, has_prompt=has_prompt)
    if template is not None and template.prompt is not None:
        prompts = Prompts([template.prompt], is_batch=False)
    else:
        prompts = _prompts(request)
    params = _params(request, len(prompts.items))
    wanted = read_wanted(request, len(prompts.items), engine.limits, is_batch=prompts.is_batch)
    counts = [max(each.n or 1, 1) for each in params]
    names = read_names(request.rid, counts, engine.limits, is_batch=prompts.is_batch)
    return Generation(request, prompts, params, template, wanted, names)


async def draft_generate(generation: Generation, engine: Engine) -> list[Draft]:
    """The sequences that a request asks for. Raises ApiError."""
    request = generation.request
    usual = NEW_TOKENS if generation.template is None else None  # a template's parts have bounds of their own
    name = "text" if request.text is not None else "input_ids" if request.input_ids is not None else "segments"
    check_sequences(len(generation.prompts.items), max(p.n or 1 for p in generation.params), name, engine)
    card = engine.ready_card()
    prefixes, structures = _structures(generation, card)
    encoded = await encode(engine, generation.prompts, name, add_special_tokens=True)
    limits = engine.limits
    namespace = Bounds().label("cache_salt", request.cache_salt, limits)
    priority = Bounds().integer("priority", request.priority, -limits.priority, limits.priority, 0)
    timeout = Bounds().above_zero("timeout", request.timeout, limits.max_timeout_s, 0)
    drafts: list[Draft] = []
    rows = zip(encoded, generation.params, prefixes, structures, generation.wanted, strict=True)
    for index, (ids, params, prefix, structure, wanted) in enumerate(rows):
        if wanted is not None:
            check_wanted(wanted, len(ids), card.vocab_size)
        names = LengthNames(name, f"{prefix}.max_new_tokens")
        choosing = resolve(
            params,
            Bounds(prefix, _OWN_NAMES),
            limits,
            Vocabulary(card.vocab_size, engine.tokenizer.eos_ids),
            max_tokens=answer_length(card, len(ids), params.max_new_tokens, usual, names, least=0),
            min_tokens=params.min_new_tokens,
            seed=params.sampling_seed,
            include_stop=False,
            grammar=structure.grammar if structure else None,
            scoring=None if wanted is None else wanted.scoring(len(ids)),
        )
        drafts += (
            Draft(index, ids, choosing.seeded(choice), choosing.display, namespace, priority, structure, timeout)
            for choice in range(choosing.n)
        )
    check_scores(drafts, "logprob_start_len", limits)
    if not generation.names:
        return drafts
    return [draft._replace(names=names) for draft, names in zip(drafts, generation.names, strict=True)]


def values_of(generation: Generation, engine: Engine) -> Callable[[], Values] | None:
    """How the values of the answer's parts are found, where it has any."""
    template = generation.template
    if template is None:
        return None

    def open_values() -> Values:
        compiled = engine.compiled(template.spec.key)
        if compiled is None:
            raise LookupError("an answer has text, but its template is not compiled")
        return template.values(compiled)

    return open_values


def _structures(generation: Generation, card: ModelCard) -> tuple[list[str], Sequence[Structure | None]]:
    """Where the parameters of each prompt are, and the grammar that they ask for."""
    params = generation.params
    if isinstance(generation.request.sampling_params, list):
        prefixes = [f"sampling_params[{index}]" for index in range(len(params))]
        structures = [read_structure(each, prefix) for each, prefix in zip(params, prefixes, strict=True)]
    else:  # one for all
        prefixes = ["sampling_params"] * len(params)
        structures = [read_structure(params[0], prefixes[0])] * len(params)
    if generation.template is not None:
        if clash := next(filter(None, structures), None):
            message = f"segments and {clash.param} both say what the answer must look like: send one of them"
            raise invalid(message, clash.param)
        jumps = [read_jump(each.jump_forward, f"{at}.jump_forward") for each, at in zip(params, prefixes, strict=True)]
        structures = [generation.template.structure(jump) for jump in jumps]
    for structure in filter(None, structures):
        check_structured(structure, card)
    return prefixes, structures


def _prompts(request: GenerateRequest) -> Prompts:
    if (request.text is None) == (request.input_ids is None):
        raise invalid("send either text or input_ids", "text")
    if isinstance(request.text, str):
        return Prompts([request.text], is_batch=False)
    if request.text is not None:
        if not request.text:
            raise invalid("text is an empty list", "text")
        return Prompts(request.text, is_batch=True)
    ids = request.input_ids or []
    flat = [id for id in ids if isinstance(id, int)]
    if len(flat) == len(ids):
        return Prompts([flat], is_batch=False)
    if flat:
        raise invalid("input_ids mixes ids and lists of ids", "input_ids")
    return Prompts([item for item in ids if isinstance(item, list)], is_batch=True)


def _params(request: GenerateRequest, prompts: int) -> list[SamplingParams]:
    params = request.sampling_params
    if isinstance(params, list):
        if len(params) != prompts:
            raise invalid(f"sampling_params has {len(params)} entries for {prompts} prompts", "sampling_params")
        return params
    return [params or SamplingParams()] * prompts
