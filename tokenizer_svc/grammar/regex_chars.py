"""The characters of a pattern: a cursor over it, escapes, and classes in brackets.

Knows what one character or one class means in each dialect, nothing of groups, repetition or anchors.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from typing import NamedTuple

from tokenizer_svc.grammar.errors import at
from tokenizer_svc.grammar.nodes import MAX_CODE_POINT, Chars, Literal, Ranges, complement, normalised


class Dialect(enum.Enum):
    """Whose rules decide what a pattern means."""

    PYTHON = "python"  # the re module with re.ASCII
    ECMA = "ecma"  # ECMA-262 with the u flag, as JSON Schema recommends; lenient where Annex B is


_PLAIN = re.compile(r"[^\\.\[(){*+?|^$\uD800-\uDFFF]+(?![{*+?]|\(\?#)")


class Source:
    """A pattern and how far it has been read, in code points."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    @property
    def next(self) -> str:
        """The character to come, empty at the end."""
        return self.text[self.position : self.position + 1]

    def take(self) -> str:
        """The character to come, empty at the end; reads it."""
        char = self.next
        self.position += len(char)
        return char

    def match(self, text: str) -> bool:
        """Reads ``text`` if it comes next."""
        found = self.text.startswith(text, self.position)
        if found:
            self.position += len(text)
        return found

    def plain(self) -> str:
        """Reads characters that mean themselves; the last one is left if a repetition may follow it."""
        found = _PLAIN.match(self.text, self.position)
        if found is None:
            return ""
        self.position = found.end()
        return found.group()

    def run(self, chars: str, most: int) -> str:
        """Reads up to ``most`` characters that are all in ``chars``."""
        start = self.position
        end = min(start + most, len(self.text))
        while self.position < end and self.text[self.position] in chars:
            self.position += 1
        return self.text[start : self.position]


DIGITS = "0123456789"
_OCTAL = "01234567"
_HEX = "0123456789abcdefABCDEF"
_DIGIT: Ranges = ((0x30, 0x39),)
_WORD: Ranges = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_PYTHON_SPACE: Ranges = ((0x09, 0x0D), (0x20, 0x20))
_ECMA_SPACE: Ranges = (
    *_PYTHON_SPACE,
    *((0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029)),
    *((0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)),
)


class _Rules(NamedTuple):
    """What differs between dialects, as tables."""

    dot: Ranges
    classes: dict[str, Ranges]  # \d and its like
    controls: dict[str, int]  # \n and its like


def _rules(space: Ranges, line_ends: Ranges, controls: dict[str, int]) -> _Rules:
    classes = {"d": _DIGIT, "w": _WORD, "s": space}
    return _Rules(
        complement(line_ends),
        classes | {name.upper(): complement(ranges) for name, ranges in classes.items()},
        controls,
    )


_CONTROLS = {"f": 0x0C, "n": 0x0A, "r": 0x0D, "t": 0x09, "v": 0x0B}
_RULES = {
    Dialect.PYTHON: _rules(_PYTHON_SPACE, ((0x0A, 0x0A),), _CONTROLS | {"a": 0x07}),
    Dialect.ECMA: _rules(_ECMA_SPACE, ((0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)), _CONTROLS),
}


def dot(dialect: Dialect) -> Chars:
    """Any code point but the ends of lines."""
    return Chars(_RULES[dialect].dot)


def character(code_point: int, position: int) -> Literal:
    """One code point as a tree. Raises GrammarError for a surrogate, which no UTF-8 text can hold."""
    if 0xD800 <= code_point <= 0xDFFF:
        raise at(position, "a surrogate cannot occur in UTF-8 text; write the code point itself")
    return Literal(chr(code_point))


def escape(source: Source, dialect: Dialect) -> Literal | Chars:
    """What a backslash, already read, and the characters after it stand for outside of brackets."""
    start = source.position - 1
    value = _escape(source, dialect, in_class=False)
    return character(value, start) if isinstance(value, int) else Chars(value)


def char_class(source: Source, dialect: Dialect) -> Literal | Chars:
    """A class, its opening bracket already read."""
    start = source.position - 1
    negated = source.match("^")
    ranges: list[tuple[int, int]] = []
    # In Python a closing bracket right at the start stands for itself; ECMA-262 has empty classes.
    literal = dialect is Dialect.PYTHON and source.next == "]"
    while literal or not source.match("]"):
        literal = False
        ranges.extend(_members(source, dialect, start))
    found = normalised(ranges)
    if ranges and not found:
        raise at(start, "this class has only surrogates, which cannot occur in UTF-8 text; write the code points")
    found = complement(found) if negated else found
    if len(found) == 1 and found[0][0] == found[0][1]:
        return Literal(chr(found[0][0]))
    return Chars(found)


def _members(source: Source, dialect: Dialect, opening: int) -> Sequence[tuple[int, int]]:
    """One member of a class: a character, a class of its own, or a range."""
    start = source.position
    low = _member(source, dialect, opening)
    if source.next != "-" or source.text.startswith("-]", source.position):
        return _as_ranges(low)
    source.take()
    high = _member(source, dialect, opening)
    if isinstance(low, int) and isinstance(high, int):
        if low > high:
            raise at(start, "the range ends before it starts")
        return ((low, high),)
    if dialect is Dialect.ECMA:  # Annex B: no range, the hyphen stands for itself
        return (*_as_ranges(low), (0x2D, 0x2D), *_as_ranges(high))
    raise at(start, "a range needs one character at each end; put a literal - first or last, or write \\-")


def _as_ranges(member: int | Ranges) -> Ranges:
    return ((member, member),) if isinstance(member, int) else member


def _member(source: Source, dialect: Dialect, opening: int) -> int | Ranges:
    char = source.take()
    if not char:
        raise at(opening, "this class has no closing bracket; write \\[ for a literal one")
    return _escape(source, dialect, in_class=True) if char == "\\" else ord(char)


def _escape(source: Source, dialect: Dialect, *, in_class: bool) -> int | Ranges:
    start = source.position - 1
    rules = _RULES[dialect]
    char = source.take()
    if char in rules.classes:
        return rules.classes[char]
    if char in rules.controls:
        return rules.controls[char]
    if char == "b" and in_class:
        return 0x08
    if char in ("x", "u", "U", "c"):
        return _coded(source, dialect, char, start)
    if char and char in DIGITS:
        return _octal(source, dialect, char, start, in_class=in_class)
    if not char or (char.isascii() and char.isalpha()):
        raise at(start, _refusal(char, dialect))
    return ord(char)


def _coded(source: Source, dialect: Dialect, kind: str, start: int) -> int:
    r"""``\\xHH``, ``\\uHHHH`` in both dialects; ``\\UHHHHHHHH`` in Python's; ``\\u{H}`` and ``\\cX`` in ECMA-262."""
    ecma = dialect is Dialect.ECMA
    if kind == "c" and ecma and source.next.isascii() and source.next.isalpha():
        return ord(source.take()) % 32
    if kind in ("x", "u"):
        if kind == "u" and ecma and source.match("{"):
            digits = source.run(_HEX, 8)
            if digits and source.match("}") and int(digits, 16) <= MAX_CODE_POINT:
                return int(digits, 16)
            raise at(start, "\\u{...} needs the hexadecimal number of a code point, at most 10FFFF")
        unit = _hex(source, kind, 2 if kind == "x" else 4, start)
        return _joined(source, unit) if ecma else unit
    if kind == "U" and not ecma:
        value = _hex(source, kind, 8, start)
        if value <= MAX_CODE_POINT:
            return value
        raise at(start, "\\U is followed by more than 0010FFFF, the last code point")
    raise at(start, _refusal(kind, dialect))


def _hex(source: Source, kind: str, count: int, start: int) -> int:
    digits = source.run(_HEX, count)
    if len(digits) < count:
        raise at(start, f"\\{kind} needs {count} hexadecimal digits")
    return int(digits, 16)


def _joined(source: Source, unit: int) -> int:
    r"""The code point of ``\\uD83D\\uDE00``, spelt as two UTF-16 units; any other unit as it is."""
    if not 0xD800 <= unit <= 0xDBFF:
        return unit
    digits = source.text[source.position + 2 : source.position + 6]
    if not source.text.startswith("\\u", source.position) or len(digits) < 4 or any(c not in _HEX for c in digits):
        return unit
    second = int(digits, 16)
    if not 0xDC00 <= second <= 0xDFFF:
        return unit
    source.position += 6
    return 0x10000 + ((unit - 0xD800) << 10) + (second - 0xDC00)


def _octal(source: Source, dialect: Dialect, first: str, start: int, *, in_class: bool) -> int:
    r"""``\\0``, and in Python also ``\\0OO`` and, in brackets, ``\\OOO``."""
    if dialect is Dialect.PYTHON and first in _OCTAL and (first == "0" or in_class):
        value = int(first + source.run(_OCTAL, 2), 8)
        if value <= 0o377:
            return value
        raise at(start, "an octal escape ends at \\377; write \\uHHHH")
    if first == "0" and (not source.next or source.next not in DIGITS):
        return 0
    if in_class or first == "0":
        raise at(start, "this is no escape here; write \\xHH for a character by its number")
    raise at(
        start, "back-references are not supported, they are not regular; write \\xHH for a character by its number"
    )


def _refusal(char: str, dialect: Dialect) -> str:
    match char:
        case "":
            return "the pattern ends in a backslash; write \\\\ for a literal one"
        case "b" | "B":
            return "word boundaries are not supported; write out the characters that may follow"
        case "p" | "P":
            return f"Unicode properties (\\{char}) are not supported; write a class such as [A-Za-z\\u00C0-\\u024F]"
        case "k":
            return "back-references are not supported, they are not regular"
        case "A" | "Z" | "z" if dialect is Dialect.ECMA:
            return f"\\{char} is no escape of ECMA-262; write ^ or $"
        case "N":
            return "characters cannot be given by name; write \\uHHHH"
        case _:
            return f"\\{char} is no escape; write {char} for the letter"
