r"""Trees as regular expressions of llguidance, which are those of Rust's regex crate. Knows nothing of schemas.

Every character but ASCII letters and digits is written as \x{...}, so that none means anything else there, nor in the
grammar around it.
"""

from __future__ import annotations

from tokenizer_svc.grammar.nodes import (
    EVERY,
    Chars,
    Concat,
    Graph,
    Label,
    Literal,
    Network,
    Node,
    Ranges,
    Repeat,
    Union,
)
from tokenizer_svc.grammar.schema_texts import is_nothing


def phrase(node: Node) -> str:
    """The expression, in a group of its own where it must be. ``node`` matches something, and has no graphs in it."""
    match node:
        case Literal(text):
            return "".join(map(_character, text))
        case Chars(ranges):
            return _chars(ranges)
        case Concat(parts):
            return "".join(map(phrase, parts))
        case Union(options):
            return f"(?:{'|'.join(phrase(option) for option in options if not is_nothing(option))})"
        case Repeat(body, least, most):
            return _repeat(body, least, most)
        case Label(body, _):
            return phrase(body)
        case Graph() | Network():
            raise AssertionError("graphs have no phrase")


def _character(char: str) -> str:
    return char if char.isascii() and char.isalnum() else f"\\x{{{ord(char):X}}}"


def _chars(ranges: Ranges) -> str:
    if ranges == EVERY:
        return "(?s:.)"
    if len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        return _character(chr(ranges[0][0]))
    ends = ((_character(chr(low)), _character(chr(high))) for low, high in ranges)
    return f"[{''.join(low if low == high else f'{low}-{high}' for low, high in ends)}]"


def _repeat(body: Node, least: int, most: int | None) -> str:
    if most == 0 or is_nothing(body):
        return ""  # the empty text; something that must be repeated matches something
    return f"(?:{phrase(body)}){quantifier(least, most)}"


def quantifier(least: int, most: int | None) -> str:
    """``{least,most}``, the same in expressions and in rules."""
    match least, most:
        case 0, None:
            return "*"
        case 1, None:
            return "+"
        case 0, 1:
            return "?"
        case _:
            return f"{{{least},}}" if most is None else f"{{{least},{most}}}"
