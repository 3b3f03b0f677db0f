"""What a sequence of events says: text, token ids, finish and usage of every choice.

Knows the shapes of the three APIs and what is wrong with a stream by itself: events that take back what was
said, events after a choice's end, counts that are not those of the tokens seen. Knows nothing of references.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from tests.chaos.history import Event

DONE = "[DONE]"


class Wrong(enum.StrEnum):
    """The ways in which a stream can be wrong."""

    GAP = "gap"
    DUPLICATE = "duplicate"
    CHANGED = "changed"
    SHORT = "short"
    FINISH = "finish"
    USAGE = "usage"
    GRAMMAR = "grammar"
    ERROR = "error"
    STATUS = "status"
    HUNG = "hung"
    DISCONNECTED = "disconnected"
    ORDER = "order"
    NOT_BACK = "not back"
    LEFT_OVER = "left over"
    DEATH = "death"  # of a process that nobody killed
    GROWTH = "growth"


class Violation(NamedTuple):
    """Something a client must not see. ``detail`` is for people."""

    wrong: Wrong
    detail: str


class Seen(msgspec.Struct):
    """One choice as far as it came. ``ids`` are known in the native API only."""

    text: str = ""
    ids: list[int] | None = None
    finish: str | None = None
    matched: Any = None
    prompt_tokens: int | None = None
    tokens: int | None = None  # as the server counts them


class Reading(msgspec.Struct):
    """A whole stream."""

    choices: dict[int, Seen] = msgspec.field(default_factory=dict[int, Seen])
    usage: dict[str, int] | None = None  # of all choices together
    done: bool = False
    wrong: list[Violation] = msgspec.field(default_factory=list[Violation])


def read_events(path: str, events: Sequence[Event]) -> Reading:
    """Fold the events of a stream from ``path``."""
    reading = Reading()
    for event in events:
        if reading.done:
            _note(reading, Wrong.ORDER, f"an event after {DONE}: {event.data[:100]}")
        elif event.data == DONE:
            reading.done = True
        else:
            body = json.loads(event.data)
            if "error" in body:
                _note(reading, Wrong.ERROR, event.data[:300])
            elif path == "/generate":
                _native(reading, body)
            else:
                _openai(reading, body)
    return reading


def _note(reading: Reading, wrong: Wrong, detail: str) -> None:
    reading.wrong.append(Violation(wrong, detail))


def _choice(reading: Reading, index: int, what: str) -> Seen:
    seen = reading.choices.setdefault(index, Seen())
    if seen.finish is not None:
        _note(reading, Wrong.FINISH, f"choice {index} had finished, then came {what[:100]}")
    return seen


def _native(reading: Reading, body: dict[str, Any]) -> None:
    """An event with all text and ids so far."""
    index = body.get("index", 0)
    seen = _choice(reading, index, str(body))
    text, ids, meta = body["text"], body["output_ids"], body["meta_info"]
    known = seen.ids or []
    reason = meta["finish_reason"]
    if ids[: len(known)] != known or not text.startswith(seen.text):
        _note(reading, Wrong.CHANGED, f"choice {index} takes back what it said: {seen.text[-40:]!r} … {text[-40:]!r}")
    elif text == seen.text and reason is None:
        _note(reading, Wrong.DUPLICATE, f"choice {index} says again what it said, at token {len(ids)}")
    if meta["completion_tokens"] != len(ids):
        _note(reading, Wrong.USAGE, f"choice {index} counts {meta['completion_tokens']} tokens and has {len(ids)}")
    seen.text, seen.ids, seen.tokens, seen.prompt_tokens = text, ids, len(ids), meta["prompt_tokens"]
    if reason is not None:
        seen.finish, seen.matched = reason["type"], reason.get("matched")


def _openai(reading: Reading, body: dict[str, Any]) -> None:
    """An event with what is new."""
    if body.get("usage"):
        if reading.usage is not None:
            _note(reading, Wrong.DUPLICATE, "usage is told twice")
        reading.usage = {name: body["usage"][name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    for choice in body["choices"]:
        index = choice["index"]
        seen = _choice(reading, index, str(choice))
        delta = choice.get("delta")
        if delta is None:
            seen.text += choice["text"]
        elif "role" in delta and index in reading.choices and seen.text:
            _note(reading, Wrong.DUPLICATE, f"choice {index} has its role told in the middle")
        else:
            seen.text += delta.get("content") or ""
        seen.finish = choice["finish_reason"]
