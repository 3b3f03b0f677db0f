"""The requests of a chaos run: every kind of stream, prompts that share beginnings, lengths that live to be hit.

Pure: the same seed makes the same requests. What they are answered is the reference run's to say.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tests.chaos.history import Ask
from tests.chaos.reading import Reading

# Short on purpose, two or three pages. Up to 64 common tokens are read by attention for each row by itself; more of
# them for all rows together: then rounding depends on who else is there, and equality to the last bit on luck.
_SHARED = (
    "you are a helpful assistant that answers questions with short and friendly sentences for the user. ",
    "a system reads the message and the answer is streamed to the user. ",
    "",
)
_LONGEST_OF_SEVERAL = 60  # characters of a prompt that has several answers, which share all of it
_WORDS = ("fox", "dog", "forest", "system", "token", "animals", "answer", "message", "brown", "lazy", "quick", "user")
_FEWEST, _MOST = 60, 200
_ROOM = 700  # tokens for answers whose grammar ends them
_PATTERN = r"(name: [a-z]{3,9}, age: [1-9][0-9]; ){6,9}that is all of them\."
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "pattern": "^[a-z ]{5,30}$"},
        "animals": {
            "type": "array",
            "minItems": 3,
            "maxItems": 4,
            "items": {
                "type": "object",
                "properties": {
                    "species": {"enum": ["fox", "dog", "tortoise"]},
                    "age": {"type": "integer", "minimum": 0, "maximum": 99},
                    "is_friendly": {"type": "boolean"},
                },
                "required": ["species", "age", "is_friendly"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["title", "animals"],
    "additionalProperties": False,
}


class _Draft:
    """One request in the making."""

    def __init__(self, rng: random.Random, number: int) -> None:
        self.rng = rng
        self.number = number
        self.tokens = rng.randint(_FEWEST, _MOST)
        words = " ".join(rng.choices(_WORDS, k=rng.randint(2, 30)))
        self.prompt = f"{rng.choice(_SHARED)}{number} {words}"
        self.short_prompt = f"{number} {words}"[:_LONGEST_OF_SEVERAL]

    def ask(self, kind: str, path: str, body: dict[str, Any], **known: Any) -> Ask:
        return Ask(f"{self.number:03d}-{kind}", kind, path, {**body, "stream": True}, **known)

    def seeded(self) -> dict[str, Any]:
        return {"temperature": 1.0, "top_p": 0.95}

    def native(self, kind: str, params: dict[str, Any], **known: Any) -> Ask:
        prompt = self.prompt if known.get("choices", 1) == 1 else self.short_prompt
        return self.ask(kind, "/generate", {"text": prompt, "sampling_params": params}, **known)

    def openai(self, kind: str, path: str, body: dict[str, Any], **known: Any) -> Ask:
        prompt = self.prompt if known.get("choices", 1) == 1 else self.short_prompt
        messages = [{"role": "system", "content": "be short"}, {"role": "user", "content": prompt}]
        start = {"prompt": prompt} if path == "/v1/completions" else {"messages": messages}
        return self.ask(kind, path, {**start, **body, "stream_options": {"include_usage": True}}, **known)


def _greedy(draft: _Draft) -> Ask:
    params = {"temperature": 0, "max_new_tokens": draft.tokens, "ignore_eos": True}
    return draft.native("greedy", params, tokens=draft.tokens)


def _seeded(draft: _Draft) -> Ask:
    params = {"max_new_tokens": draft.tokens, "ignore_eos": True, "sampling_seed": draft.number, **draft.seeded()}
    return draft.native("seeded", params, tokens=draft.tokens)


def _penalised(draft: _Draft) -> Ask:
    """What was said so far changes what comes: it must survive whoever forgets it."""
    body = {"max_tokens": draft.tokens, "ignore_eos": True, "seed": draft.number, "frequency_penalty": 0.7}
    return draft.openai("penalised", "/v1/completions", {**body, **draft.seeded()}, tokens=draft.tokens)


def _several(draft: _Draft) -> Ask:
    params = {"max_new_tokens": draft.tokens, "ignore_eos": True, "sampling_seed": draft.number, "n": 3}
    return draft.native("n=3", {**params, **draft.seeded()}, tokens=draft.tokens, choices=3)


def _chat(draft: _Draft) -> Ask:
    body = {"max_tokens": draft.tokens, "ignore_eos": True, "temperature": 0}
    return draft.openai("chat", "/v1/chat/completions", body, tokens=draft.tokens)


def _chat_of_two(draft: _Draft) -> Ask:
    body = {"max_tokens": draft.tokens, "ignore_eos": True, "seed": draft.number, "n": 2, **draft.seeded()}
    return draft.openai("chat n=2", "/v1/chat/completions", body, tokens=draft.tokens, choices=2)


def _stopped(draft: _Draft) -> Ask:
    """Gets its stop string from its own text, see :func:`with_stop`."""
    body = {"max_tokens": _MOST, "ignore_eos": True, "temperature": 0}
    return draft.openai("stop", "/v1/completions", body)


def _stopped_native(draft: _Draft) -> Ask:
    params = {"max_new_tokens": _MOST, "ignore_eos": True, "sampling_seed": draft.number, **draft.seeded()}
    return draft.native("stop native", params)


def _regex(draft: _Draft) -> Ask:
    params = {"max_new_tokens": _ROOM, "sampling_seed": draft.number, "temperature": 1.0, "regex": _PATTERN}
    return draft.native("regex", params, pattern=_PATTERN)


def _json(draft: _Draft) -> Ask:
    form = {"type": "json_schema", "json_schema": {"name": "animals", "schema": _SCHEMA}}
    body = {"max_tokens": _ROOM, "seed": draft.number, "temperature": 1.0, "response_format": form}
    return draft.openai("json", "/v1/chat/completions", body, schema=_SCHEMA)


_KINDS: tuple[Callable[[_Draft], Ask], ...] = (
    _greedy, _seeded, _penalised, _several, _chat, _chat_of_two, _stopped, _stopped_native, _regex, _json,
)  # fmt: skip
_STOPPED = ("stop", "stop native")


def asks(seed: int, count: int, *, resumable: bool = False) -> list[Ask]:
    """``count`` requests, of all kinds in turn; with ``resumable`` every other one of each kind is."""
    rng = random.Random(f"asks {seed}")
    made = [_KINDS[number % len(_KINDS)](_Draft(rng, number)) for number in range(count)]
    if not resumable:
        return made
    return [_resumable(ask) if number // len(_KINDS) % 2 else ask for number, ask in enumerate(made)]


def _resumable(ask: Ask) -> Ask:
    return msgspec.structs.replace(ask, body={**ask.body, "resumable": True}, resumable=True)


def needs_stop(ask: Ask) -> bool:
    return ask.kind in _STOPPED


def with_stop(ask: Ask, free: Reading) -> Ask:
    """The same request with a stop string that its text, as it is without one, reaches late."""
    text = free.choices[0].text
    stop = _late_piece(text)
    body = dict(ask.body)
    if ask.path == "/generate":
        body["sampling_params"] = {**body["sampling_params"], "stop": [stop]}
    else:
        body["stop"] = [stop, "never in any text"]
    return msgspec.structs.replace(ask, body=body)


def _late_piece(text: str) -> str:
    """Three characters that first occur late in a text, none of which is half of another."""
    spots: Sequence[int] = range(len(text) * 3 // 5, len(text) - 3)
    for spot in spots:
        piece = text[spot : spot + 3]
        if text.find(piece) == spot and "\ufffd" not in piece:
            return piece
    return text[-3:]
