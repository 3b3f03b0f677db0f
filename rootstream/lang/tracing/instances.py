"""The smallest text that a regex matches, the smallest value that a JSON Schema allows. Pure.

For placeholders, so that what parses a generation's text can parse theirs. Best effort: None, or a value near by, where
a pattern or schema asks for more than these few rules know.
"""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# What `re` reads a pattern into. There is no public door to it; names are stable from Python 3.11 to 3.13.
_parser: Any = importlib.import_module("re._parser")

_NICE = "a0 -_.A"  # preferred where any character will do
_CATEGORIES = {
    "CATEGORY_DIGIT": "0",
    "CATEGORY_NOT_DIGIT": "a",
    "CATEGORY_SPACE": " ",
    "CATEGORY_NOT_SPACE": "a",
    "CATEGORY_WORD": "a",
    "CATEGORY_NOT_WORD": " ",
}
_FORMATS = {
    "date": "2000-01-01",
    "time": "00:00:00Z",
    "date-time": "2000-01-01T00:00:00Z",
    "duration": "PT0S",
    "email": "a@b.c",
    "uuid": "00000000-0000-0000-0000-000000000000",
    "uri": "a:b",
    "ipv4": "0.0.0.0",  # noqa: S104 - a text
    "ipv6": "::",
    "hostname": "a",
}


def matching(pattern: str) -> str | None:
    """A short text that the whole pattern matches, None where none is found."""
    try:
        text = _shortest(_parser.parse(pattern), {})
        return text if re.fullmatch(pattern, text) else None
    except (re.error, LookupError, RecursionError, OverflowError):
        return None


def _shortest(tokens: Iterable[Any], groups: dict[int, str]) -> str:
    """Raises LookupError for what nothing can match."""
    said = ""
    for op, argument in tokens:
        match str(op):
            case "LITERAL":
                said += chr(argument)
            case "NOT_LITERAL":
                said += next(char for char in _NICE if ord(char) != argument)
            case "ANY":
                said += "a"
            case "IN":
                said += _one_of(argument)
            case "BRANCH":
                said += _shortest(argument[1][0], groups)
            case "SUBPATTERN":
                inner = _shortest(argument[3], groups)
                if argument[0] is not None:
                    groups[argument[0]] = inner
                said += inner
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                least, _, repeated = argument
                said += "".join(_shortest(repeated, groups) for _ in range(least))
            case "ATOMIC_GROUP":
                said += _shortest(argument, groups)
            case "GROUPREF":
                said += groups[argument]
            case _:  # places and looks around: whether they hold shows in the end
                pass
    return said


def _one_of(items: list[Any]) -> str:
    """A character of a class."""
    if str(items[0][0]) == "NEGATE":
        candidates = (*_NICE, *map(chr, range(33, 0x250)))
        return next(char for char in candidates if not any(_holds(item, char) for item in items[1:]))
    op, argument = items[0]
    match str(op):
        case "RANGE":
            return chr(argument[0])
        case "CATEGORY":
            return _CATEGORIES[str(argument)]
        case _:
            return chr(argument)


def _holds(item: Any, char: str) -> bool:
    op, argument = item
    match str(op):
        case "RANGE":
            return argument[0] <= ord(char) <= argument[1]
        case "CATEGORY":
            classes = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w"}
            kind = str(argument).removeprefix("CATEGORY_")
            return bool(re.match(classes[kind.removeprefix("NOT_")], char)) != kind.startswith("NOT_")
        case _:
            return ord(char) == argument


def allowed(schema: Any) -> Any:
    """A small value that the schema allows; of several kinds the first that is not null."""
    try:
        return _value(schema, schema, frozenset())
    except (LookupError, RecursionError):
        return None


def _value(schema: Any, root: Any, within: frozenset[str]) -> Any:
    """``within``: the references that lead here. Raises LookupError where there would be no end."""
    if not isinstance(schema, Mapping):
        return None
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if (reference := schema.get("$ref")) is not None:
        if reference in within:
            raise LookupError(reference)
        return _value({**_referred(reference, root), **_without(schema, "$ref")}, root, within | {reference})
    if schema.get("allOf"):
        together = [{**_referred(one.get("$ref"), root), **_without(one, "$ref")} for one in schema["allOf"]]
        return _value(_merged([_without(schema, "allOf"), *together]), root, within)
    for several in ("anyOf", "oneOf"):
        if options := schema.get(several):
            rest = _without(schema, several)
            return _first([_merged([rest, option]) for option in options], root, within)
    return _typed(schema, root, within)


def _first(options: Sequence[Any], root: Any, within: frozenset[str]) -> Any:
    """Of what comes to an end, the first that is not null."""
    ended = 0
    for option in options:
        with contextlib.suppress(LookupError):
            value = _value(option, root, within)
            if value is not None:
                return value
            ended += 1
    if not ended:
        raise LookupError(options)
    return None


def _typed(schema: Mapping[str, Any], root: Any, within: frozenset[str]) -> Any:
    match _type(schema):
        case "object":
            known = schema.get("properties", {})
            wanted = schema.get("required", ())
            return {name: _value(known.get(name, {"type": "string"}), root, within) for name in wanted}
        case "array":
            first = [_value(item, root, within) for item in schema.get("prefixItems", ())]
            least = schema.get("minItems", 0)
            more = [_value(schema.get("items", {}), root, within) for _ in range(least - len(first))]
            return (first + more)[: max(least, len(first) if "prefixItems" in schema else least)]
        case "string":
            return _string(schema)
        case "integer" | "number" as kind:
            return _number(schema, whole=kind == "integer")
        case "boolean":
            return False
        case _:
            return None


def _type(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        return next((str(one) for one in kind if one != "null"), "null")
    if kind is not None:
        return str(kind)
    hints = {
        "object": {"properties", "required", "additionalProperties"},
        "array": {"items", "prefixItems", "minItems"},
        "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    }
    return next((name for name, words in hints.items() if words & schema.keys()), "string")


def _string(schema: Mapping[str, Any]) -> str:
    if (pattern := schema.get("pattern")) is not None:
        text = matching(f".*(?:{pattern}).*") if not pattern.startswith("^") else matching(_whole(pattern))
        if text is not None and len(text) >= schema.get("minLength", 0):
            return text
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    return "a" * schema.get("minLength", 0)


def _whole(pattern: str) -> str:
    return pattern if pattern.endswith("$") else f"(?:{pattern}).*"


def _number(schema: Mapping[str, Any], *, whole: bool) -> float:
    """The number nearest to 0."""
    step = schema.get("multipleOf", 1 if whole else None)
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    gap = step or 0.5
    lows = [bound for bound in (low, None if above is None else above + gap) if bound is not None]
    highs = [bound for bound in (high, None if below is None else below - gap) if bound is not None]
    value: float = 0
    if lows and value < max(lows):
        value = max(lows) if step is None else -(-max(lows) // step) * step
    elif highs and value > min(highs):
        value = min(highs) if step is None else min(highs) // step * step
    if lows and highs and not max(lows) <= value <= min(highs):
        value = (max(low or lows[0], above or lows[0]) + min(high or highs[0], below or highs[0])) / 2
    return int(value) if whole else value


def _referred(reference: str | None, root: Any) -> Mapping[str, Any]:
    """What a reference within the schema points at; anything for one that points elsewhere, or for none."""
    if reference is None or not reference.startswith("#"):
        return {}
    found = root
    for step in reference.removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        found = found.get(name, {}) if isinstance(found, Mapping) else {}
    return found if isinstance(found, Mapping) else {}


def _merged(schemas: Iterable[Any]) -> dict[str, Any]:
    """One schema in place of several that hold together."""
    merged: dict[str, Any] = {}
    for schema in schemas:
        if not isinstance(schema, Mapping):
            continue
        properties = {**merged.get("properties", {}), **schema.get("properties", {})}
        required = [*merged.get("required", ()), *schema.get("required", ())]
        merged.update(schema)
        merged.update({"properties": properties} if properties else {})
        merged.update({"required": list(dict.fromkeys(required))} if required else {})
    return merged


def _without(schema: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}
