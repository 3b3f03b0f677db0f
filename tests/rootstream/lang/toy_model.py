"""A language model that anybody can compute in their head, nearly: a word follows from a checksum of all before it.

The same text always goes on the same way, so that it does not matter in how many calls a program is sent.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

WORDS = ("ash", "birch", "cedar", "elm", "fir", "hazel", "ivy", "larch", "maple", "oak", "pine", "yew")
_END = 11  # one word in eleven is the end


class Drawn(NamedTuple):
    """A generated text."""

    text: str
    words: int
    finish_reason: str
    matched_stop: str | None = None


def words(text: str, salt: str = "") -> Iterator[str]:
    """What follows a text, word by word, up to the end. ``salt`` stands for seed and index of a sampled text."""
    while True:
        sum_ = zlib.crc32(f"{salt}{text}".encode())
        if sum_ % _END == 0:
            return
        word = f" {WORDS[sum_ % len(WORDS)]}"
        yield word
        text += word


def generate(text: str, gen: dict[str, Any], index: int = 0) -> Drawn:
    """What a gen part asks for, with the fields that can matter here: max_tokens, stop, temperature, seed, choices,
    and json_schema, which gives the shortest instance.
    """
    salt = f"{gen.get('seed')}:{index}:" if gen.get("temperature") else ""
    if choices := gen.get("choices"):
        return Drawn(choices[zlib.crc32(f"{salt}{text}".encode()) % len(choices)], 1, "stop")
    if gen.get("json_schema") is not None:
        return Drawn(_instance(gen["json_schema"]), 1, "stop")
    most, said, count = gen.get("max_tokens") or 8, "", 0
    for word in words(text, salt):
        said, count = said + word, count + 1
        for stop in gen.get("stop") or ():
            if stop in said:
                return Drawn(said[: said.index(stop)], count, "stop", stop)
        if count >= most:
            return Drawn(said, count, "length")
    return Drawn(said, count, "stop")


def scores(text: str, choices: Sequence[str]) -> list[float]:
    """How likely each is to follow."""
    return [-(zlib.crc32(f"{text}{choice}".encode()) % 1000) / 100 for choice in choices]


def _instance(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return _quoted(schema["enum"][0])
    match schema.get("type"):
        case "object":
            fields = (f'"{name}":{_instance(field)}' for name, field in schema.get("properties", {}).items())
            return "{" + ",".join(fields) + "}"
        case "array":
            return "[]"
        case "integer" | "number":
            return "7"
        case "boolean":
            return "true"
        case _:
            return '"oak"'


def _quoted(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
