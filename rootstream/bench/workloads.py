"""The named workloads, as requests to send. Pure: the same name, seed and vocabulary give the same requests.

Prompts are token ids, so that their lengths are exact; only conversations, whose history holds what the
server answered, and questions for a structured answer are text. ``worded`` makes text of the ids too.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

SHARED_PREFIX_TOKENS = 1500


class Completion(NamedTuple):
    """One request with a prompt of token ids, or of text."""

    prompt: list[int] | str
    max_tokens: int


class Conversation(NamedTuple):
    """A system prompt and questions, each asked once the one before is answered."""

    system: str
    questions: list[str]
    max_tokens: int  # of each answer


class Structured(NamedTuple):
    """A question whose answer must obey a JSON schema, and is as long as that makes it."""

    question: str
    schema: dict[str, Any]
    max_tokens: int


class Chat(NamedTuple):
    """One request with messages."""

    messages: list[dict[str, Any]]
    max_tokens: int


Request = Completion | Conversation | Structured | Chat


class Workload(NamedTuple):
    """Requests and how many are under way at once."""

    name: str
    requests: Sequence[Request]
    concurrency: int


def make(name: str, *, seed: int = 0, vocab_size: int = 32000) -> Workload:
    """A workload by its name; KeyError for an unknown one."""
    return _MAKERS[name](random.Random(f"{name} {seed}"), vocab_size)  # noqa: S311 - repeatable on purpose


def names() -> list[str]:
    return list(_MAKERS)


def worded(workload: Workload) -> Workload:
    """The same with common words for token ids, for servers that take only text.

    Each word with the space before it is one token of most vocabularies, so that lengths hardly change; what
    was a shared prefix still is one.
    """

    def text(request: Request) -> Request:
        if isinstance(request, Completion) and not isinstance(request.prompt, str):
            return request._replace(prompt="".join(f" {_WORDS[id % len(_WORDS)]}" for id in request.prompt))
        return request

    return workload._replace(requests=[text(request) for request in workload.requests])


def as_chats(workload: Workload) -> Workload:
    """The same with every prompt as the question of a chat, for servers that know nothing else."""

    def chat(request: Request) -> Request:
        if isinstance(request, Completion) and isinstance(request.prompt, str):
            return Chat([{"role": "user", "content": request.prompt}], request.max_tokens)
        return request

    return workload._replace(requests=[chat(request) for request in worded(workload).requests])


def _shared_prefix(rng: random.Random, vocab_size: int) -> Workload:
    """One long system prompt and a short question each: what a radix cache is for."""
    system = ids(rng, vocab_size, SHARED_PREFIX_TOKENS)
    requests = [Completion(system + ids(rng, vocab_size, 32), max_tokens=48) for _ in range(32)]
    return Workload("shared-prefix", requests, concurrency=8)


def _distinct(rng: random.Random, vocab_size: int) -> Workload:
    """Nothing in common: continuous batching alone."""
    requests = [Completion(ids(rng, vocab_size, 256), max_tokens=64) for _ in range(32)]
    return Workload("distinct", requests, concurrency=8)


def _single(rng: random.Random, vocab_size: int) -> Workload:
    """One after the other: the latency of a token."""
    requests = [Completion(ids(rng, vocab_size, 128), max_tokens=128) for _ in range(4)]
    return Workload("single", requests, concurrency=1)


def _chat(rng: random.Random, vocab_size: int) -> Workload:
    """Conversations that grow: every turn repeats the ones before."""
    del vocab_size
    system = "You are a patient teacher. " + _sentence(rng, 60)
    requests = [
        Conversation(system, [_sentence(rng, 30) + "?" for _ in range(4)], max_tokens=48) for _ in range(8)
    ]  # fmt: skip
    return Workload("chat", requests, concurrency=8)


def _json(rng: random.Random, vocab_size: int) -> Workload:
    """Answers that are mostly the keys of a schema: what jump-forward is for."""
    del vocab_size
    requests = [
        Structured(f"Make up the record of an order of a {_sentence(rng, 2)} shop.", ORDER_SCHEMA, max_tokens=600)
        for _ in range(8)
    ]
    return Workload("json", requests, concurrency=4)


_MAKERS: dict[str, Callable[[random.Random, int], Workload]] = {
    "shared-prefix": _shared_prefix,
    "distinct": _distinct,
    "single": _single,
    "chat": _chat,
    "json": _json,
}

_FIELDS: dict[str, dict[str, Any]] = {
    "customer_account_reference_number": {"type": "string", "maxLength": 12},
    "preferred_delivery_window_of_the_customer": {"enum": ["morning", "afternoon", "evening"]},
    "customer_has_agreed_to_terms_and_conditions": {"type": "boolean"},
    "name_of_the_warehouse_that_ships_the_order": {"type": "string", "maxLength": 16},
    "shipping_method_chosen_at_the_time_of_checkout": {"enum": ["standard", "express", "pickup"]},
    "order_contains_fragile_or_perishable_items": {"type": "boolean"},
    "reason_given_for_the_last_change_of_the_order": {"type": "string", "maxLength": 24},
    "current_status_of_the_order_in_the_fulfilment_process": {"enum": ["received", "packed", "shipped", "returned"]},
    "discount_code_entered_by_the_customer_at_checkout": {"type": "string", "maxLength": 10},
    "payment_has_been_confirmed_by_the_payment_provider": {"type": "boolean"},
}
ORDER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": _FIELDS,
    "required": list(_FIELDS),
    "additionalProperties": False,
}
"""Long keys and short values; only what every server's grammars know: enum, boolean, strings of a greatest length."""

_TEXT = """
time year people way day man thing woman life child world school state family student group country problem hand
part place case week company system program question work government number night point home water room mother area
money story fact month lot right study book eye job word business issue side kind head house service friend father
power hour game line end member law car city community name president team minute idea body information back parent
face others level office door health person art war history party result change morning reason research girl guy
moment air teacher force education
"""
_WORDS = _TEXT.split()


def ids(rng: random.Random, vocab_size: int, count: int) -> list[int]:
    """Random token ids; the first few of a vocabulary are often special tokens, and left out."""
    return [rng.randrange(min(64, vocab_size // 2), vocab_size) for _ in range(count)]


def _sentence(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(_WORDS) for _ in range(words))
