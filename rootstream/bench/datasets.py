"""Requests from files and from measures: prompts of one's own instead of the named workloads. Pure but for reading.

Files are read in the shapes that are around: JSONL with a `prompt` (or a bare string) or with `messages` on each line,
lines of OpenAI's batch format, and ShareGPT's conversations, of which the first question is asked and the first answer
says how long its own may be.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rootstream.bench.workloads import Chat, Completion, Request, Workload, ids
from shared.errors import UserError

_TOKENS = 128  # of an answer, where nothing says
_SHAREGPT_USERS = frozenset({"human", "user"})
_PER_WORD = 1.3  # tokens, roughly


class Shape(NamedTuple):
    """Requests by measure: so many tokens, of which the first ones are common to a group."""

    prompt_tokens: int
    prefix_tokens: int
    groups: int


def synthetic(shape: Shape, count: int, max_tokens: int, *, seed: int, vocab_size: int, concurrency: int) -> Workload:
    """Random prompts of one length; every group shares a prefix."""
    rng = random.Random(f"synthetic {seed}")  # noqa: S311 - repeatable on purpose
    prefixes = [ids(rng, vocab_size, shape.prefix_tokens) for _ in range(shape.groups)]
    own = shape.prompt_tokens - shape.prefix_tokens
    requests = [Completion(prefixes[i % shape.groups] + ids(rng, vocab_size, own), max_tokens) for i in range(count)]
    return Workload("synthetic", requests, concurrency)


def from_file(path: Path, count: int | None, max_tokens: int | None, *, seed: int, concurrency: int) -> Workload:
    """The first ``count`` requests of a file, shuffled by ``seed`` where that is not 0. Raises UserError."""
    try:
        found = list(_requests(path, max_tokens))
    except OSError as error:
        raise UserError(f"--dataset {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"--dataset {path} is no text") from None
    if not found:
        raise UserError(f"--dataset {path} holds no prompt")
    if seed:
        random.Random(seed).shuffle(found)  # noqa: S311 - repeatable on purpose
    return Workload(path.stem, found[:count], concurrency)


def _requests(path: Path, max_tokens: int | None) -> Iterator[Request]:
    for place, value in _values(path):
        request = _request(value, max_tokens)
        if request is None:
            raise UserError(
                f"--dataset {path}, {place}: no prompt here: write a string, or an object with prompt, messages or "
                "conversations"
            )
        yield request


def _values(path: Path) -> Iterator[tuple[str, Any]]:
    """Each entry with where it stands: of one JSON list, or of a line each."""
    with path.open() as file:
        if file.read(1) == "[":
            file.seek(0)
            try:
                entries = json.load(file)
            except ValueError:
                entries = None  # lines that happen to begin so
            if entries is not None:
                yield from ((f"entry {number}", entry) for number, entry in enumerate(entries, start=1))
                return
        file.seek(0)
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield f"line {number}", json.loads(line)
                except ValueError as error:
                    raise UserError(f"--dataset {path}, line {number}: it is not JSON: {error}") from None


def _request(value: Any, max_tokens: int | None) -> Request | None:
    if isinstance(value, str):
        return Completion(value, max_tokens or _TOKENS)
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("body"), dict):
        return _request(value["body"], max_tokens)
    asked = value.get("max_tokens") or value.get("max_completion_tokens") or value.get("output_tokens")
    most = max_tokens or (asked if isinstance(asked, int) else _TOKENS)
    if isinstance(messages := value.get("messages"), list):
        return Chat(messages, most) if messages and all(isinstance(each, dict) for each in messages) else None
    prompt: Any = value.get("prompt", value.get("text"))
    if isinstance(prompt, str) or _are_ids(prompt):
        return Completion(prompt, most)
    if isinstance(turns := value.get("conversations", value.get("conversation")), list):
        return _of_sharegpt(turns, max_tokens)
    return None


def _of_sharegpt(turns: Sequence[Any], max_tokens: int | None) -> Chat | None:
    said = [
        (str(turn.get("from", turn.get("role"))), turn.get("value", turn.get("content")))
        for turn in turns
        if isinstance(turn, dict)
    ]
    for at, (who, text) in enumerate(said):
        if who in _SHAREGPT_USERS and isinstance(text, str) and text:
            answer = said[at + 1][1] if at + 1 < len(said) else None
            words = len(answer.split()) if isinstance(answer, str) else 0
            most = max_tokens or max(4, round(words * _PER_WORD)) if words else max_tokens or _TOKENS
            return Chat([{"role": "user", "content": text}], most)
    return None


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, int) for item in value)
