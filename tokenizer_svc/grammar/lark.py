r"""Grammars in llguidance's variant of Lark, or in GBNF as llama.cpp, SGLang (``ebnf``) and vLLM take it.

Checked by llguidance itself, over a vocabulary of single bytes: the worker's own is not known here. So a grammar
may not name tokens. Source of the dialects: llguidance's docs/syntax.md and its converter from GBNF.
"""

from __future__ import annotations

import functools
import re

import msgspec
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from llguidance.gbnf_to_lark import gbnf_to_lark

from shared.grammar import Guidance
from tokenizer_svc.grammar.errors import GrammarError

_GBNF = re.compile(r"^[ \t]*root[ \t]*::=", re.MULTILINE)
_ESCAPE = re.compile(r"\\(?:u(?P<four>[0-9a-fA-F]{4})|U(?P<eight>[0-9a-fA-F]{8})|(?P<bracket>[\[\]])|.)", re.DOTALL)
_UNSERVED = re.compile(r"^[ \t]*[?!]*[\w-]+(?:::\w+)?[ \t]*\[[^:\n]*?\b(?P<name>temperature|stop)[ \t]*=", re.MULTILINE)
_QUOTED = re.compile(r" *(?:\d+ \||\^)")
_LONGEST_REASON = 500
_INSTEAD = {
    "temperature": "set the temperature of the request",
    "stop": "use suffix, or lazy and a regular expression that ends with it",
}


def compile_lark(text: str) -> Guidance:
    """The grammar, valid and not empty. Raises GrammarError."""
    if "\0" in text:
        raise GrammarError("the grammar holds a NUL character")
    lark = _from_gbnf(text) if _GBNF.search(text) else text
    if found := _UNSERVED.search(lark):
        name = found["name"]
        raise GrammarError(f"the attribute {name!r} of a rule is not supported: {_INSTEAD[name]}")
    grammar = msgspec.json.encode({"grammars": [{"lark_grammar": lark}]}).decode()
    check(grammar)
    return Guidance(grammar)


def _from_gbnf(text: str) -> str:
    try:
        return gbnf_to_lark(_ESCAPE.sub(_simpler, text))
    except RecursionError:
        raise GrammarError("the grammar is nested too deeply") from None
    except Exception as error:  # what the converter raises for rules that are missing or named alike
        raise GrammarError(f"the GBNF grammar cannot be read: {error}") from error


def _simpler(escape: re.Match[str]) -> str:
    r"""Escapes that the converter gets wrong (llguidance 1.9.1 loses the leading zeros of ``\u0041``)."""
    if escape["bracket"]:
        return f"\\x{ord(escape['bracket']):02x}"
    digits = escape["four"] or escape["eight"]
    if digits is None:
        return escape[0]
    code_point = int(digits, 16)
    if code_point < 0x80:
        return f"\\x{code_point:02x}"
    if code_point > 0x10FFFF or 0xD800 <= code_point < 0xE000:
        raise GrammarError(f"the escape {escape[0]} is no character (at character {escape.start()})")
    return chr(code_point)


def check(grammar: str) -> None:
    """Raises GrammarError where llguidance, or a first look at what the grammar allows, finds fault with it.

    ``grammar`` is in llguidance's serialised form.
    """
    failed, messages = LLMatcher.validate_grammar_with_warnings(grammar)
    if failed:
        raise GrammarError(_reason(messages[0]))
    if any(message.startswith("no tokenizer") for message in messages):
        raise GrammarError("the grammar names tokens of a vocabulary, which is not supported: write their text instead")
    matcher = LLMatcher(byte_vocabulary(), grammar, log_level=0)
    if not matcher.is_error():
        matcher.compute_bitmask()
        if not matcher.is_error():
            return
        if matcher.stop_reason() == "InternalError" and "NoExtension" in matcher.get_error():
            raise GrammarError("no text matches this grammar")
    raise GrammarError(_reason(matcher.get_error()))


def admits(grammar: str, beginning: str) -> bool:
    """Whether a text may begin so. ``grammar`` is checked, and in llguidance's serialised form."""
    data = list(beginning.encode())
    return LLMatcher(byte_vocabulary(), grammar, log_level=0).try_consume_tokens(data) == len(data)


def _reason(message: str) -> str:
    """What llguidance says, without its copy of the grammar: line and column lead to the place."""
    lines = [line.strip() for line in message.splitlines() if not _QUOTED.match(line)]
    return " ".join(filter(None, lines))[:_LONGEST_REASON]


class _Bytes:
    """A tokenizer as llguidance wants to see one."""

    eos_token_id = 256
    bos_token_id = None
    tokens = (*(bytes((byte,)) for byte in range(256)), b"\xff<end>")
    special_token_ids = (256,)

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


@functools.cache
def byte_vocabulary() -> LLTokenizer:
    """Token n is the byte n, token 256 the end."""
    return LLTokenizer(TokenizerWrapper(_Bytes()))
