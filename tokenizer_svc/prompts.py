"""Prompts: texts or token ids, one or several, made into token ids and held against the context.

Knows nothing of the APIs they come from.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from shared.protocol import ModelCard
from tokenizer_svc.api_error import ApiError, invalid
from tokenizer_svc.engine import Engine
from tokenizer_svc.limits import Limits
from tokenizer_svc.sampling import Bounds
from tokenizer_svc.tracing import part

RawPrompt = str | list[str | int | list[int]]
"""A text, texts, token ids, or lists of token ids, as clients send them."""

T = TypeVar("T")


class Prompts(NamedTuple):
    """What a RawPrompt turns out to be."""

    items: list[str] | list[list[int]]
    is_batch: bool  # the client sent a list of prompts, be it of one


def sort_out(raw: RawPrompt, name: str) -> Prompts:
    """Tell the four forms apart. Raises ApiError 400 for mixed or empty ones."""
    if isinstance(raw, str):
        return Prompts([raw], is_batch=False)
    if not raw:
        raise invalid(f"{name} is empty: send a text, token ids, or a list of either", name)
    kinds = {type(item) for item in raw}
    if len(kinds) > 1:
        raise invalid(f"{name} mixes texts, token ids and lists: send one kind", name)
    if kinds == {int}:
        return Prompts([[id for id in raw if isinstance(id, int)]], is_batch=False)
    if kinds == {str}:
        return Prompts([text for text in raw if isinstance(text, str)], is_batch=True)
    return Prompts([ids for ids in raw if isinstance(ids, list)], is_batch=True)


async def encode(
    engine: Engine, prompts: Prompts, name: str, *, add_special_tokens: bool, may_be_long: bool = False
) -> list[list[int]]:
    """Token ids of every prompt. Raises ApiError 400 for empty prompts and ids beyond the vocabulary.

    ``may_be_long``: longer than the context, because it is shortened afterwards.
    """
    card = None if may_be_long else engine.ready_card()

    def work() -> list[list[int]]:
        return [
            tokenise(engine, card, item, name, add_special_tokens=add_special_tokens) if isinstance(item, str) else item
            for item in prompts.items
        ]

    encoded = await aside(engine, sum(map(len, prompts.items)), work)
    for index, ids in enumerate(encoded):
        path = f"{name}[{index}]" if prompts.is_batch else name
        if not ids:
            raise invalid(f"{path} is empty: at least one token is needed", path)
        check_ids(ids, engine.ready_card(), path)
    return encoded


def tokenise(engine: Engine, card: ModelCard | None, text: str, name: str, *, add_special_tokens: bool) -> list[int]:
    """Token ids of a text. Raises ApiError 400, without the work, where it cannot possibly fit: None, it need not."""
    if card is not None and len(text) >= engine.limits.thread_from:
        least = engine.tokenizer.least_tokens(text)
        if least >= context_of(card):
            raise _too_long(f"the prompt of more than {least} tokens", context_of(card), name)
    return engine.tokenizer.encode(text, add_special_tokens=add_special_tokens)


async def aside(engine: Engine, size: int, work: Callable[[], T]) -> T:
    """Do what may take long for ``size`` characters in a thread, so that the loop goes on; short work here."""
    started = time.perf_counter()
    with part("door.tokenise"):
        result = await asyncio.to_thread(work) if size >= engine.limits.thread_from else work()
    engine.metrics.tokenise.observe(time.perf_counter() - started)
    return result


def check_ids(ids: Sequence[int], card: ModelCard, path: str) -> None:
    """Raises ApiError 400 for an id that the model does not have."""
    if not (min(ids) >= 0 and max(ids) < card.vocab_size):
        raise invalid(f"{path} holds token ids outside the vocabulary of {card.vocab_size} (0 is the first)", path)


class LengthNames(NamedTuple):
    """What an API calls the prompt and the length of the answer, for errors."""

    prompt: str
    max_tokens: str


def context_of(card: ModelCard) -> int:
    """Tokens of prompt and answer together: the model's limit, or the KV pool where that is smaller."""
    return min(card.context_length, card.kv_tokens)


class Truncation(NamedTuple):
    """How a prompt is shortened that is too long."""

    most: int | None  # tokens that are kept; None: as many as fit
    from_left: bool  # the last ones are kept

    def of(self, ids: list[int], card: ModelCard, answer: int) -> list[int]:
        """What is kept of a prompt, with room for ``answer`` tokens where as many are kept as fit."""
        most = context_of(card) - answer if self.most is None else self.most
        if not 0 < most < len(ids):
            return ids
        return ids[-most:] if self.from_left else ids[:most]


def read_truncation(most: int | None, side: str | None, limits: Limits) -> Truncation | None:
    """Of ``truncate_prompt_tokens`` and ``truncation_side``. Raises ApiError 400."""
    if side not in (None, "left", "right"):
        raise invalid(f'truncation_side must be "left" or "right", not {side[:50]!r}', "truncation_side")
    if most is None:
        return None
    name = "truncate_prompt_tokens"
    if most == 0:
        raise invalid(f"{name} must be -1, for as many as fit, or at least 1, not 0", name)
    Bounds().integer(name, most, -1, limits.max_part_tokens, 0)
    return Truncation(None if most == -1 else most, from_left=side != "right")


def answer_length(
    card: ModelCard, prompt_tokens: int, asked: int | None, default: int | None, names: LengthNames, *, least: int = 1
) -> int:
    """How many tokens the answer may have: as asked, else ``default`` (None: all that fit), if they fit.

    ``least`` is 0 where an answer may have none: the prompt is computed, and nothing drawn. Raises ApiError 400.
    """
    context = context_of(card)
    if asked is not None and asked < least:
        raise invalid(f"{names.max_tokens} must be at least {least}, not {asked}", names.max_tokens)
    room = context - prompt_tokens
    if room < (least if asked == 0 else 1):
        beside = "" if room < 0 else " with one more to answer"
        raise _too_long(f"the prompt of {prompt_tokens} tokens{beside}", context, names.prompt)
    if asked is None:
        return room if default is None else min(default, room)
    if asked > room:
        together = f"the prompt of {prompt_tokens} tokens with {asked} for the answer, {prompt_tokens + asked} in all,"
        raise _too_long(together, context, names.prompt)
    return asked


def _too_long(what: str, context: int, param: str) -> ApiError:
    """In the words that clients look for, of several servers."""
    message = (
        f"this model's maximum context length is {context} tokens: {what} is longer than the model's context length: "
        "shorten the prompt or the answer"
    )
    return invalid(message, param, "context_length_exceeded")
