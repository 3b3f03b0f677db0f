"""Random patterns of the dialect, and random texts that are likely to match them, or nearly."""

from __future__ import annotations

from random import Random

from tokenizer_svc.grammar.nodes import Chars, Concat, Graph, Label, Literal, Node, Ranges, Repeat, Union

# UTF-8 of one to four bytes, and the code points next to where its forms change or have holes.
EDGES = "\x00\n\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff"
LETTERS = 'abcXYZ019_ -"\t\r\xa0éßж中\u2028☃😀🏴' + EDGES
ESCAPES = (r"\n", r"\t", r"\r", r"\f", r"\v", r"\a", r"\0", r"\012", r"\x41", r"\xe9", r"\u00df", r"\u2603")
PLAIN_ESCAPES = (*ESCAPES, r"\U0001f600", r"\.", r"\*", r"\\", r"\[", r"\]", r"\{", r"\}", r"\-", r"\ ", r"\"", r"\é")
SETS = (r"\d", r"\w", r"\s", r"\D", r"\W", r"\S")
QUANTIFIERS = ("*", "+", "?", "{2}", "{0}", "{1,}", "{,2}", "{1,3}", "{0,2}", "{,}", "{002}")
BRACES = ("{", "}", "{}", "{a}", "{1", "{1,", "{,a}", "{ 1}", "]", "-", "&&", "~", "#", "<", ">", ":", "=", "!", ",")


def pattern(rng: Random) -> str:
    """A pattern of the dialect; some have ranges in brackets that are none."""
    text = "|".join(_alternative(rng, 2) for _ in range(rng.choice((1, 1, 1, 2))))
    if rng.random() < 0.15:
        start = rng.choice(("^", r"\A", "", "(^)", "(?:^|)"))
        text = start + f"(?:{text})" + rng.choice(("$", r"\Z", "", "($)", "(?:|$)"))
    return text


def _alternative(rng: Random, depth: int) -> str:
    return "".join(_repeated(rng, depth) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4))))


def _repeated(rng: Random, depth: int) -> str:
    if rng.random() < 0.08:
        return rng.choice(BRACES)
    term = _term(rng, depth)
    if rng.random() < 0.35:
        return term + rng.choice(QUANTIFIERS) + ("?" if rng.random() < 0.2 else "")
    return term


def _term(rng: Random, depth: int) -> str:
    kind = rng.random()
    if depth and kind < 0.25:
        inner = "|".join(_alternative(rng, depth - 1) for _ in range(rng.choice((1, 2, 3))))
        opening = rng.choice(("(", "(?:", f"(?P<g{rng.getrandbits(60)}>", "(?#note)("))
        return f"{opening}{inner})"
    if kind < 0.45:
        return char_class(rng)
    if kind < 0.55:
        return rng.choice(SETS)
    if kind < 0.6:
        return "."
    if kind < 0.75:
        return rng.choice(PLAIN_ESCAPES)
    return rng.choice([letter for letter in LETTERS if letter not in ".^$*+?{}[]\\|()"])


def char_class(rng: Random) -> str:
    """A class, with everything that Python finds in brackets."""
    members = [_member(rng) for _ in range(rng.choice((1, 1, 2, 3, 4)))]
    first = rng.choice(("", "", "", "]", "-", "[", "]-a"[: rng.choice((1, 2))]))
    last = rng.choice(("", "", "", "-"))
    return f"[{rng.choice(('', '', '^'))}{first}{''.join(members)}{last}]"


def _member(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.15:
        return rng.choice(SETS)
    if kind < 0.3:
        return rng.choice((*ESCAPES, r"\b", r"\]", r"\-", r"\^", r"\\", r"\1", r"\377"))
    if kind < 0.6:
        low, high = sorted(rng.sample(sorted(set(LETTERS) - set("]\\-^[ ")), 2))
        return f"{low}-{high}"
    return rng.choice([*LETTERS.replace("-", ""), ".", "$", "*", "(", "|", "{", "&&", "~~", "[", "||"])


def sample(node: Node, rng: Random) -> str | None:
    """A text of the tree's language, by a random walk; None where the walk ended in a place that matches nothing."""
    match node:
        case Literal(text):
            return text
        case Chars(ranges):
            return one_of(ranges, rng) if ranges else None
        case Concat(parts):
            texts = [sample(part, rng) for part in parts]
        case Union(options):
            return sample(rng.choice(options), rng) if options else None
        case Repeat(body, least, most):
            times = rng.randint(least, least + 2 if most is None else min(most, least + 2))
            texts = [sample(body, rng) for _ in range(times)]
        case Label(body, _):
            return sample(body, rng)
        case Graph():
            return None
    found = [text for text in texts if text is not None]
    return "".join(found) if len(found) == len(texts) else None


def one_of(ranges: Ranges, rng: Random) -> str:
    """A code point of the set, often at an edge of a range."""
    low, high = rng.choice(ranges)
    return chr(rng.choice((low, high, rng.randint(low, high), min(high, low + rng.randrange(128)))))


def mutated(text: str, rng: Random) -> str:
    """``text`` with one or two code points inserted, removed, replaced or moved by one."""
    for _ in range(rng.choice((1, 1, 2))):
        place = rng.randint(0, len(text))
        kind = rng.randrange(4)
        if kind == 0:
            text = text[:place] + rng.choice(LETTERS) + text[place:]
        elif kind == 1:
            text = text[:place] + text[place + 1 :]
        elif kind == 2:
            text = text[:place] + rng.choice(LETTERS) + text[place + 1 :]
        elif place < len(text):
            neighbour = min(max(ord(text[place]) + rng.choice((-1, 1)), 0), 0x10FFFF)
            text = text[:place] + (chr(neighbour) if not 0xD800 <= neighbour <= 0xDFFF else "") + text[place + 1 :]
    return text


def texts(node: Node, rng: Random, count: int, longest: int) -> list[str]:
    """Texts in and around the language of a tree, none longer than ``longest`` code points."""
    found = ["", "\n"]
    while len(found) < count:
        text = sample(node, rng) if rng.random() < 0.8 else None
        if text is None:
            text = "".join(rng.choice(LETTERS) for _ in range(rng.randint(0, 4)))
        elif rng.random() < 0.5:
            text = mutated(text, rng)
        found.append(text[:longest])
    return found
