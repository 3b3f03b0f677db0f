"""How the tokens of a vocabulary are spelled: the bytes that each contributes to the text, whatever stands around it.

Read off the decoder's own description. Two families have such a spelling: byte-level vocabularies (GPT-2's letters for
bytes) and SentencePiece-like ones (``▁`` for a space, ``<0xNN>`` for a byte). Where the decoder does anything that
depends on neighbours, or that is not known here, there is none, and the reason is said.

Knows nothing of files, prompts or grammars.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from functools import cache
from typing import Any, NamedTuple

import tokenizers
from tokenizers import pre_tokenizers

Spell = Callable[[str], bytes]
"""The bytes of a token that is written like this in the vocabulary."""

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Unspellable(NamedTuple):
    """A vocabulary whose tokens have no spelling of their own."""

    reason: str


def spell_vocabulary(backend: tokenizers.Tokenizer, silent: Collection[int]) -> list[bytes] | Unspellable:
    """The bytes of every id below the vocabulary's size; empty for ``silent`` ids and for those without a token.

    A decoder that removes spaces at the start of the text does so once, not per token: a spelling is what the token
    adds after other text. Takes 0.1 s for 49,152 tokens.
    """
    spell = speller(backend)
    if isinstance(spell, Unspellable):
        return spell
    spelled: list[bytes] = []
    for id in range(vocabulary_size(backend)):
        token = None if id in silent else backend.id_to_token(id)
        spelled.append(b"" if token is None else spell(token))
    return spelled


def vocabulary_size(backend: tokenizers.Tokenizer) -> int:
    """One more than the largest id: ids may have gaps, which the library's own count leaves out."""
    return 1 + max(backend.get_vocab(with_added_tokens=True).values(), default=-1)


def speller(backend: tokenizers.Tokenizer) -> Spell | Unspellable:
    """The rule by which this tokenizer's decoder spells one token."""
    description: dict[str, Any] | None = json.loads(backend.to_str())["decoder"]
    steps = _steps(description)
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"]:
        return spell_byte_level
    replaced: list[tuple[str, str]] = []
    while steps and steps[0]["type"] == "Replace":
        step = steps.pop(0)
        if "String" not in step["pattern"]:
            return Unspellable(f"its decoder replaces the pattern {step['pattern']}, not a string")
        replaced.append((step["pattern"]["String"], step["content"]))
    has_bytes = bool(steps) and steps[0]["type"] == "ByteFallback"
    if not has_bytes:
        return Unspellable(f"its decoder ({', '.join(kinds) or 'none'}) is neither byte-level nor has byte fallback")
    rest = steps[1:]
    if rest and rest[0]["type"] == "Fuse":
        rest = rest[1:]
        if rest and rest[0]["type"] == "Strip" and rest[0]["stop"] == 0:  # at the start of the whole text
            rest = rest[1:]
    if rest:
        return Unspellable(f"its decoder has a step {rest[0]['type']} that may change a token by its neighbours")
    return _spell_pieces(replaced)


def spell_byte_level(token: str) -> bytes:
    """A token of a byte-level vocabulary; an added one is spelled as plain text."""
    letters = _byte_letters()
    try:
        return bytes([letters[letter] for letter in token])
    except KeyError:
        return token.encode()


def absent_bytes(backend: tokenizers.Tokenizer) -> bytes:
    """The bytes that a byte-level vocabulary has no token for: in a text it leaves them out (SmolLM2: 21 of them)."""
    return bytes(byte for letter, byte in _byte_letters().items() if backend.token_to_id(letter) is None)


def _spell_pieces(replaced: list[tuple[str, str]]) -> Spell:
    def spell(token: str) -> bytes:
        for old, new in replaced:
            token = token.replace(old, new)
        byte = _BYTE_TOKEN.fullmatch(token)
        return token.encode() if byte is None else bytes.fromhex(byte[1])

    return spell


def _steps(description: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A decoder as the list of its steps."""
    if description is None:
        return []
    if description["type"] == "Sequence":
        return [step for part in description["decoders"] for step in _steps(part)]
    return [description]


@cache
def _byte_letters() -> dict[str, int]:
    """The letter that stands for each byte in a byte-level vocabulary (GPT-2's bytes_to_unicode)."""
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    letters = {chr(byte): byte for byte in range(256) if chr(byte) in alphabet}
    rest = (byte for byte in range(256) if chr(byte) not in letters)
    return letters | {chr(256 + offset): byte for offset, byte in enumerate(rest)}
