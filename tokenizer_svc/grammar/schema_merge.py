"""Assertions side by side, made one shape: what the types of a schema say, and the bounds of scalars.

Objects and arrays are merged in schema_containers.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from tokenizer_svc.grammar import schema_texts as texts
from tokenizer_svc.grammar.regex import parse
from tokenizer_svc.grammar.schema_containers import Context, lists, records
from tokenizer_svc.grammar.schema_formats import ENCODINGS, FORMATS, UNENFORCED
from tokenizer_svc.grammar.schema_keywords import ARRAY, NUMBER, OBJECT, STRING, refusal
from tokenizer_svc.grammar.schema_numbers import MOST_REMAINDERS, WHOLE_DIGITS, common_step, scale
from tokenizer_svc.grammar.schema_parts import Part, Reading
from tokenizer_svc.grammar.schema_refs import below
from tokenizer_svc.grammar.schema_shapes import BOOLEAN, NEVER, NULL, Never, Numbers, Shape, Strings, choice
from tokenizer_svc.grammar.schema_texts import Language

_KEYWORDS = {"number": NUMBER, "string": STRING, "array": ARRAY, "object": OBJECT}
_KINDS = ("null", "boolean", "number", "string", "array", "object")


def merged(parts: Sequence[Part], reading: Reading, context: Context) -> Shape:
    """The shape of a value for which all the parts hold; they have no references and no choices."""
    stated = _types(parts)
    if stated is not None:
        return choice([_of_type(kind, parts, reading, context) for kind in stated])
    implied = [kind for kind, keywords in _KEYWORDS.items() if any(part.has_any(keywords) for part in parts)]
    if reading is Reading.GENERATED and implied:
        shape = choice([_of_type(kind, parts, reading, context) for kind in implied])
        if not isinstance(shape, Never):
            return shape
    return choice([_of_type(kind, parts, reading, context) for kind in _KINDS])


def _types(parts: Sequence[Part]) -> list[str] | None:
    """The types that all parts allow; None where none of them says."""
    common: set[str] | None = None
    order: list[str] = []
    for part in parts:
        if not part.has("type"):
            continue
        value = part.get("type")
        names = [str(name) for name in (value if isinstance(value, list) else [value])]
        order = order or names
        found = {*names, *(["integer"] if "number" in names else [])}
        common = found if common is None else common & found
    if common is None:
        return None
    if "number" in common:
        common.discard("integer")
    return [*(name for name in order if name in common), *sorted(common - set(order))]


def _of_type(kind: str, parts: Sequence[Part], reading: Reading, context: Context) -> Shape:
    match kind:
        case "null":
            return NULL
        case "boolean":
            return BOOLEAN
        case "integer" | "number":
            return _numbers(parts, whole=kind == "integer")
        case "string":
            return _strings(parts, context)
        case "array":
            return lists(parts, reading, context)
        case _:
            return records(parts, reading, context)


def _numbers(parts: Sequence[Part], *, whole: bool) -> Shape:
    low, above_low = _bound(parts, "minimum", "exclusiveMinimum", lower=True)
    high, below_high = _bound(parts, "maximum", "exclusiveMaximum", lower=False)
    steps = [Decimal(1)] if whole else []
    steps += (_step(part) for part in parts if part.has("multipleOf"))
    step = common_step(steps)
    numbers = Numbers(low, high, above_low, below_high, step)
    reach = scale(numbers)
    if reach.factor > MOST_REMAINDERS:
        where = next(part.pointer for part in parts if part.has("multipleOf"))
        raise refusal("multipleOf", where, f"it asks for more than {MOST_REMAINDERS} remainders to be told apart")
    return NEVER if reach.is_empty else numbers


def _bound(parts: Sequence[Part], inclusive: str, exclusive: str, *, lower: bool) -> tuple[Decimal | None, bool]:
    """The tightest bound and whether it is excluded. No arithmetic, which would round."""
    tightest: tuple[Decimal, bool] | None = None
    for part in parts:
        for keyword, excluded in ((inclusive, False), (exclusive, True)):
            value = part.get(keyword)
            if not isinstance(value, int | Decimal):
                continue
            raised = Decimal(value) if lower else Decimal(value).copy_negate()
            if raised >= 10**WHOLE_DIGITS:
                raise refusal(keyword, part.pointer, f"numbers have at most {WHOLE_DIGITS} digits")
            tightest = (raised, excluded) if tightest is None else max(tightest, (raised, excluded))
    if tightest is None:
        return None, False
    return tightest[0] if lower else tightest[0].copy_negate(), tightest[1]


def _step(part: Part) -> Decimal:
    value = Decimal(str(part.get("multipleOf")))
    if not -WHOLE_DIGITS < value.adjusted() < WHOLE_DIGITS or len(value.as_tuple().digits) > WHOLE_DIGITS:
        raise refusal("multipleOf", part.pointer, "it is too fine or too coarse")
    return value


def _strings(parts: Sequence[Part], context: Context) -> Shape:
    least = max((part.number("minLength") or 0 for part in parts), default=0)
    most = min((most for part in parts if (most := part.number("maxLength")) is not None), default=None)
    languages: dict[str, Language] = {}
    formats: dict[str, Language] = {}
    for part in parts:
        pattern = part.get("pattern")
        if isinstance(pattern, str):
            languages.setdefault(pattern, context.pattern(pattern, below(part.pointer, "pattern")))
        for known in _known_languages(part):
            formats.setdefault(known, Language(parse(known, context.limits), context.language_limits))
    constraints = texts.Constraints(least, most, (*languages.values(), *formats.values()))
    possible = texts.is_possible(constraints, context.limits)
    return Strings(least, most, tuple(languages.values()), tuple(formats.values())) if possible else NEVER


def _known_languages(part: Part) -> list[str]:
    """The patterns of ``format`` and ``contentEncoding``; what no draft names says nothing."""
    found: list[str] = []
    name, encoding = part.get("format"), part.get("contentEncoding")
    if isinstance(name, str) and name in UNENFORCED:
        raise refusal("format", part.pointer, f"{name} cannot be enforced; leave it out")
    if isinstance(name, str) and name in FORMATS:
        found.append(FORMATS[name])
    if isinstance(encoding, str):
        if encoding not in ENCODINGS:
            raise refusal("contentEncoding", part.pointer, f"only {', '.join(ENCODINGS)} can be enforced")
        found.append(ENCODINGS[encoding])
    return found
