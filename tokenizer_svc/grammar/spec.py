"""What a client asks its output to look like, in one canonical form for all APIs.

Two requests that ask for the same have the same spec and so the same key: it is compiled once.
"""

from __future__ import annotations

import enum
import hashlib

import msgspec

from shared.grammar import FORMAT, Whitespace


class Kind(enum.StrEnum):
    """How ``text`` of a spec is to be read."""

    REGEX = "regex"  # a pattern in our dialect
    CHOICE = "choice"  # a JSON list of texts
    JSON_SCHEMA = "json_schema"  # a JSON Schema
    JSON_OBJECT = "json_object"  # any JSON object; no text
    LARK = "lark"  # a grammar in llguidance's variant of Lark, or GBNF-like EBNF
    TOOLS = "tools"  # calls of tools: a JSON ToolsSpec
    EITHER = "either"  # calls of tools, or a text of another kind: a JSON EitherSpec
    BAD_WORDS = "bad_words"  # any text without these: a JSON list of texts
    TOKENS = "tokens"  # any of these tokens, again and again: a JSON list of ids
    TEMPLATE = "template"  # fixed and generated segments: a JSON TemplateSpec


class Reasoned(msgspec.Struct, frozen=True):
    """Reasoning that precedes a grammar's text: it begins once the closing mark has been written."""

    closer: str
    opener: str = ""  # that the text may begin with; empty where the prompt has done so


class GrammarSpec(msgspec.Struct, frozen=True):
    """A grammar before it is compiled."""

    kind: Kind
    text: str = ""
    whitespace: Whitespace = Whitespace.SPACED
    after: Reasoned | None = None

    @property
    def leaves_form(self) -> bool:
        """Whether it says nothing of what a text looks like: it holds in reasoning, too, and beside tools."""
        return self.kind in (Kind.BAD_WORDS, Kind.TOKENS)

    @property
    def key(self) -> str:
        """SHA-256 over all that decides what it compiles to."""
        return hashlib.sha256(f"{FORMAT}\0".encode() + msgspec.json.encode(self)).hexdigest()
