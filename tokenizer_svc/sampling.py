"""Sampling fields of a request: read, bounded, and resolved to what the worker obeys.

Three APIs share the fields; a default that depends on the API is an argument. Knows nothing of prompts.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from shared.protocol import Grammar, Jump, Sampling, Scoring
from tokenizer_svc.api_error import invalid
from tokenizer_svc.draft import Display
from tokenizer_svc.limits import SEED_MODULUS, Limits
from tokenizer_svc.stop_regex import read_stop_regex
from tokenizer_svc.structure import StructureFields

_MOST_ID = 2**31 - 1


class SamplingFields(StructureFields, kw_only=True):
    """Fields with one name and meaning in all APIs. None is the default of each."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    n: int | None = None
    stop: str | int | list[str | int] | None = None
    stop_token_ids: list[int] | None = None
    stop_regex: str | list[str] | None = None
    ignore_eos: bool | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None  # of no effect on tokenizers in Rust, here and elsewhere
    no_stop_trim: bool | None = None  # SGLang's name for include_stop_str_in_output


class Choosing(NamedTuple):
    """What the fields of one request amount to."""

    sampling: Sampling
    display: Display
    n: int

    def seeded(self, index: int) -> Sampling:
        """The sampling of one of the n choices: each draws with a seed of its own."""
        return msgspec.structs.replace(self.sampling, seed=(self.sampling.seed + index) % SEED_MODULUS)


class Bounds:
    """Checks of named values; ``prefix`` is where they are in the request, ``names`` what it calls some of them."""

    def __init__(self, prefix: str = "", names: Mapping[str, str] | None = None) -> None:
        self._prefix = prefix
        self._names = names or {}

    def path(self, name: str) -> str:
        name = self._names.get(name, name)
        return f"{self._prefix}.{name}" if self._prefix else name

    def number(self, name: str, value: float | None, low: float, high: float, default: float) -> float:
        """``value`` if ``low <= value <= high``, ``default`` for None. Raises ApiError 400."""
        if value is None:
            return default
        if not low <= value <= high:
            raise invalid(f"{self.path(name)} must be between {low:g} and {high:g}, not {value:g}", self.path(name))
        return value

    def integer(self, name: str, value: int | None, low: int, high: int, default: int) -> int:
        """As :meth:`number`, for integers."""
        if value is None:
            return default
        if not low <= value <= high:
            raise invalid(f"{self.path(name)} must be between {low} and {high}, not {value}", self.path(name))
        return value

    def above_zero(self, name: str, value: float | None, high: float, default: float) -> float:
        """``value`` if ``0 < value <= high``, ``default`` for None. Raises ApiError 400."""
        if value is None:
            return default
        if not 0 < value <= high:
            path = self.path(name)
            raise invalid(f"{path} must be greater than 0 and at most {high:g}, not {value:g}", path)
        return value

    def length(self, name: str, count: int, high: int, what: str) -> None:
        """Raises ApiError 400 when there are more than ``high``."""
        if count > high:
            raise invalid(f"{self.path(name)} has {count} {what}, at most {high} are allowed", self.path(name))

    def label(self, name: str, value: str | None, limits: Limits) -> str:
        """A short text such as cache_salt; empty for None."""
        self.length(name, len(value or ""), limits.max_label, "characters")
        return value or ""


class Vocabulary(NamedTuple):
    """What token ids may be."""

    size: int
    eos_ids: tuple[int, ...]


def resolve(
    fields: SamplingFields,
    bounds: Bounds,
    limits: Limits,
    vocabulary: Vocabulary,
    *,
    max_tokens: int,
    min_tokens: int | None,
    seed: int | None,
    include_stop: bool,
    grammar: Grammar | None = None,
    scoring: Scoring | None = None,
) -> Choosing:
    """All defaults resolved, all bounds checked. Raises ApiError 400 naming the field.

    With ``scoring`` every token is drawn, so that it has a score: no text is jumped over, whatever the request says.
    """
    temperature = bounds.number("temperature", fields.temperature, 0, limits.max_temperature, 1)
    top_k = bounds.integer("top_k", fields.top_k, -1, 2**31 - 1, 0)
    stops = _stops(fields, bounds, limits, vocabulary)
    stop_ids = stops.ids
    ending = stop_ids if fields.ignore_eos else tuple(dict.fromkeys(vocabulary.eos_ids + stop_ids))
    number = limits.penalty
    if grammar is not None and scoring is not None:
        grammar = msgspec.structs.replace(grammar, jump=Jump.OFF)
    sampling = Sampling(
        max_tokens=max_tokens,
        temperature=temperature if temperature >= limits.min_temperature else 0.0,
        top_k=0 if top_k < 0 or top_k >= vocabulary.size else top_k,
        top_p=bounds.above_zero("top_p", fields.top_p, 1, 1),
        min_p=bounds.number("min_p", fields.min_p, 0, 1, 0),
        frequency_penalty=bounds.number("frequency_penalty", fields.frequency_penalty, -number, number, 0),
        presence_penalty=bounds.number("presence_penalty", fields.presence_penalty, -number, number, 0),
        repetition_penalty=bounds.number(
            "repetition_penalty",
            fields.repetition_penalty,
            limits.min_repetition_penalty,
            limits.max_repetition_penalty,
            1,
        ),
        seed=_seed(bounds, seed, limits),
        logit_bias=_logit_bias(fields.logit_bias or {}, bounds, limits, vocabulary),
        min_tokens=_min_tokens(bounds, min_tokens, max_tokens),
        stop_token_ids=ending,
        grammar=grammar,
        scoring=scoring,
    )
    display = Display(
        stop=stops.strings,
        include_stop=include_stop or bool(fields.no_stop_trim),
        stop_token_ids=ending,
        stop_regex=read_stop_regex(fields.stop_regex, limits.max_stop_regexes, bounds.path("stop_regex")),
        skip_special_tokens=fields.skip_special_tokens is not False,
    )
    return Choosing(sampling, display, bounds.integer("n", fields.n, 1, limits.max_n, 1))


def _seed(bounds: Bounds, seed: int | None, limits: Limits) -> int:
    if seed is None:
        return secrets.randbits(64)
    return bounds.integer("seed", seed, limits.min_seed, limits.max_seed, 0) % SEED_MODULUS


def _min_tokens(bounds: Bounds, min_tokens: int | None, max_tokens: int) -> int:
    if (min_tokens or 0) > max_tokens:
        path = bounds.path("min_tokens")
        raise invalid(f"{path} is {min_tokens}, more than the {max_tokens} tokens of the answer", path)
    return bounds.integer("min_tokens", min_tokens, 0, max_tokens, 0)


class _Stops(NamedTuple):
    """What ends an answer besides the model's own ids."""

    strings: tuple[str, ...]
    ids: tuple[int, ...]


def _stops(fields: SamplingFields, bounds: Bounds, limits: Limits, vocabulary: Vocabulary) -> _Stops:
    stop = fields.stop
    stops = stop if isinstance(stop, list) else [] if stop is None else [stop]
    strings = [text for text in stops if isinstance(text, str)]
    ids = [id for id in stops if isinstance(id, int)]
    listed = fields.stop_token_ids or []
    bounds.length("stop", len(strings), limits.max_stop_strings, "strings")
    for text in strings:
        if not text:
            raise invalid(
                f"{bounds.path('stop')} holds an empty string, which would end every answer", bounds.path("stop")
            )
        bounds.length("stop", len(text), limits.max_stop_length, "characters in one string")
    for name, each in (("stop", ids), ("stop_token_ids", listed)):
        bounds.length(name, len(each), limits.max_stop_ids, "ids")
        for id in each:
            bounds.integer(name, id, 0, _MOST_ID, 0)
    drawable = [id for id in (*listed, *ids) if id < vocabulary.size]  # others are never drawn, and end nothing
    return _Stops(tuple(dict.fromkeys(strings)), tuple(dict.fromkeys(drawable)))


def _logit_bias(
    bias: dict[str, float], bounds: Bounds, limits: Limits, vocabulary: Vocabulary
) -> tuple[tuple[int, float], ...]:
    bounds.length("logit_bias", len(bias), limits.max_logit_bias, "entries")
    resolved: dict[int, float] = {}
    for key, value in bias.items():
        is_number = key.isascii() and key.isdigit() and len(key) <= limits.max_number_digits
        if not (is_number and int(key) < vocabulary.size):
            path = bounds.path("logit_bias")
            raise invalid(f"{path} has the key {key[:50]!r}: keys are token ids below {vocabulary.size}", path)
        resolved[int(key)] = bounds.number("logit_bias", value, -limits.logit_bias, limits.logit_bias, 0)
    return tuple(resolved.items())
