r"""Regular expressions as text, parsed into trees: our own dialect, and the one of JSON Schema's ``pattern``.

The dialect is a subset of Python's ``re`` with the flag ASCII, and what it accepts means the same there under
``re.fullmatch``, on every text that UTF-8 can hold:

- characters; ``.`` (all but ``\n``); ``\d \w \s \D \W \S`` over ASCII; ``\n \t \r \f \v \a``, ``\xHH``, ``\uHHHH``,
  ``\UHHHHHHHH``, ``\0`` and two more octal digits, and any other escaped character that is no ASCII letter or digit;
- classes with ranges and negation, ``\b`` and octal escapes in them; ``[]a]`` and ``[a-]`` as in Python;
- ``( )``, ``(?: )``, ``(?P<name> )``, ``(?# )``; groups capture nothing;
- ``|``, ``* + ? {m} {m,} {,n} {m,n}`` and their lazy forms, which are the same language; a ``{`` that begins none of
  these stands for itself;
- ``^ \A $ \Z`` at the edges of the pattern, where they say nothing new, inside of groups too.

Refused, at their position: look-around, back-references, word boundaries, conditionals, atomic groups, possessive
repetition, inline flags, names of characters, surrogates, anchors elsewhere. Bounds are checked while parsing.

``parse_search`` reads ECMA-262 instead: see there. Neither knows of automata.
"""

from __future__ import annotations

from typing import NamedTuple

from tokenizer_svc.grammar.errors import GrammarError, at
from tokenizer_svc.grammar.limits import LIMITS, GrammarLimits
from tokenizer_svc.grammar.nodes import Literal, Node, Repeat
from tokenizer_svc.grammar.regex_anchors import Anchor, Edge, Group, Item, Side, group, repeated, resolve
from tokenizer_svc.grammar.regex_chars import DIGITS, Dialect, Source, char_class, character, dot, escape


def parse(pattern: str, limits: GrammarLimits = LIMITS) -> Node:
    """The texts that ``pattern`` matches from end to end. Raises GrammarError with the position of what is wrong."""
    return resolve(_Parser(pattern, Dialect.PYTHON, limits).pattern(), Edge.CLOSED, Edge.CLOSED)


def parse_within(pattern: str, limits: GrammarLimits = LIMITS) -> Node:
    """As :func:`parse`, for a pattern that is looked for in a text whose edges nobody knows: anchors are refused."""
    parser = _Parser(pattern, Dialect.PYTHON, limits)
    options = parser.pattern()
    if parser.anchor is not None:
        raise at(parser.anchor, "an anchor says nothing of a text that is still being written; leave it out")
    return resolve(options, Edge.CLOSED, Edge.CLOSED)


def parse_search(pattern: str, limits: GrammarLimits = LIMITS) -> Node:
    r"""The texts in which ``pattern`` matches somewhere, as JSON Schema's ``pattern`` means it. Raises GrammarError.

    ECMA-262 with the flag u, where that is what JSON Schema asks for: ``\s`` and ``.`` know the Unicode white space
    and line ends, ``\d`` and ``\w`` are ASCII; ``$`` is the very end; ``[]`` is nothing and ``[^]`` anything;
    ``\cX``, ``\u{H}``, and ``\uD83D\uDE00`` for one code point; ``(?<name> )``; ``{,n}`` is plain text. As lenient as
    Annex B about ``{``, ``}``, ``]``, ``[\w-.]`` and needless escapes. ``\p`` is refused, and so is all that
    :func:`parse` refuses.
    """
    return resolve(_Parser(pattern, Dialect.ECMA, limits).pattern(), Edge.OPEN, Edge.OPEN)


class _Bounds(NamedTuple):
    least: int
    most: int | None


_SIMPLE = {"*": _Bounds(0, None), "+": _Bounds(1, None), "?": _Bounds(0, 1)}
_ANCHORS = {"^": Side.START, "$": Side.END}
_EXTENSIONS = (
    ("(?=", "look-ahead is not supported; write out what may follow"),
    ("(?!", "look-ahead is not supported; write out what may follow, or exclude characters with [^...]"),
    ("(?<=", "look-behind is not supported; write out what may come before"),
    ("(?<!", "look-behind is not supported; write out what may come before"),
    ("(?>", "atomic groups are not supported; write (?: )"),
    ("(?(", "conditionals are not supported; write both cases as alternatives"),
    ("(?P=", "back-references are not supported, they are not regular"),
)


class _Parser:
    """Recursive descent, in the order in which Python's own parser decides."""

    def __init__(self, pattern: str, dialect: Dialect, limits: GrammarLimits) -> None:
        size = len(pattern.encode("utf-8", "surrogatepass"))
        if size > limits.regex_bytes:
            raise GrammarError(f"the pattern has {size} bytes; at most {limits.regex_bytes} are allowed")
        self._source = Source(pattern)
        self._dialect = dialect
        self._limits = limits
        self._names: set[str] = set()
        self.anchor: int | None = None  # where the first one stands

    def pattern(self) -> list[list[Item]]:
        options = self._alternatives(depth=0)
        if self._source.next:
            raise at(self._source.position, "unbalanced ); write \\) for a literal one")
        return options

    def _alternatives(self, depth: int) -> list[list[Item]]:
        options = [self._items(depth)]
        while self._source.match("|"):
            options.append(self._items(depth))
        return options

    def _items(self, depth: int) -> list[Item]:
        source = self._source
        items: list[Item] = []
        repeatable = "nothing to repeat; write \\{} for the character itself"
        refusal = repeatable
        while source.next not in ("", "|", ")"):
            start = source.position
            if self._dialect is Dialect.PYTHON and source.match("(?#"):
                self._comment(start)
                continue
            if plain := source.plain():
                items.append(Literal(plain))
                refusal = ""
                continue
            char = source.take()
            bounds = self._bounds(char, start)
            if bounds is None:
                items.append(self._item(char, start, depth))
                refusal = repeatable if isinstance(items[-1], Anchor) else ""
                continue
            if refusal:
                raise at(start, refusal.format(char))
            items[-1] = self._repeat(items[-1], bounds)
            refusal = "multiple repeat; put the first repetition into a group (?: )"
        return items

    def _repeat(self, item: Item, bounds: _Bounds) -> Item:
        source = self._source
        if source.next == "+":
            raise at(source.position, "possessive repetition is not supported; leave out the second +")
        source.match("?")
        match item:
            case Anchor():
                raise AssertionError("refused before")
            case Group():
                return repeated(item, *bounds)
            case _:
                return Repeat(item, *bounds)

    def _bounds(self, char: str, start: int) -> _Bounds | None:
        """The bounds of a repetition that begins with ``char``, already read; None if none does."""
        if char != "{":
            return _SIMPLE.get(char)
        source = self._source
        here = source.position
        low = source.run(DIGITS, len(source.text))
        comma = source.match(",")
        high = source.run(DIGITS, len(source.text)) if comma else low
        empty = not (low or (comma and self._dialect is Dialect.PYTHON))
        if empty or not source.match("}"):
            source.position = here
            return None
        least = self._bound(low or "0", start)
        most = self._bound(high, start) if high else None
        if most is not None and most < least:
            raise at(start, f"a repetition of at least {least} and at most {most} times is empty; exchange the bounds")
        return _Bounds(least, most)

    def _bound(self, digits: str, start: int) -> int:
        digits = digits.lstrip("0") or "0"
        if len(digits) > len(str(self._limits.repeat)) or int(digits) > self._limits.repeat:
            shown = digits if len(digits) <= 20 else f"{digits[:20]}..."
            raise at(start, f"a repetition of {shown}; at most {self._limits.repeat} are allowed")
        return int(digits)

    def _item(self, char: str, start: int, depth: int) -> Item:
        source = self._source
        match char:
            case "(":
                return self._group(start, depth + 1)
            case "[":
                return char_class(source, self._dialect)
            case ".":
                return dot(self._dialect)
            case "^" | "$":
                return self._anchor(_ANCHORS[char], start)
            case "\\":
                if self._dialect is Dialect.PYTHON and source.next in ("A", "Z"):
                    return self._anchor(Side.START if source.take() == "A" else Side.END, start)
                return escape(source, self._dialect)
            case _:
                return character(ord(char), start)

    def _anchor(self, side: Side, start: int) -> Anchor:
        if self.anchor is None:
            self.anchor = start
        return Anchor(side, start)

    def _group(self, start: int, depth: int) -> Item:
        source = self._source
        if depth > self._limits.depth:
            raise at(start, f"groups nest deeper than {self._limits.depth}; take some apart")
        if source.match("?") and not source.match(":"):
            self._name(start)
        options = self._alternatives(depth)
        if not source.match(")"):
            raise at(start, "this ( is never closed; write \\( for a literal one")
        return group(options)

    def _name(self, start: int) -> None:
        """What comes between ``(?`` and the contents of a group, if it is a name."""
        source = self._source
        for opening, refusal in _EXTENSIONS:
            if source.text.startswith(opening, start):
                raise at(start, refusal)
        if not (source.match("P<") or (self._dialect is Dialect.ECMA and source.match("<"))):
            raise at(start, "inline flags and other extensions are not supported; write ( ), (?: ) or (?P<name> )")
        end = source.text.find(">", source.position)
        name = source.text[source.position : end] if end >= 0 else ""
        if not name.isidentifier():
            raise at(source.position, "a group's name is an identifier followed by >")
        if name in self._names:
            raise at(source.position, f"there is another group with the name {name}")
        self._names.add(name)
        source.position = end + 1

    def _comment(self, start: int) -> None:
        end = self._source.text.find(")", self._source.position)
        if end < 0:
            raise at(start, "this comment is never closed")
        self._source.position = end + 1
