"""Grammars as clients ask for them, for tests of whatever compiles or obeys them.

``SCHEMAS`` and ``REGEXES`` are lists of (name, spec) of our own making; tests/random_schemas.py makes more schemas. All
of them are supported, and what is valid can be checked with jsonschema or ``re.fullmatch``.
"""

from __future__ import annotations

import json
from typing import Any

from shared.grammar import Whitespace
from tokenizer_svc.grammar.spec import GrammarSpec, Kind

Named = tuple[str, GrammarSpec]
Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
REAL: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}


def record(required: str | None = None, /, **properties: Any) -> Schema:
    """A closed object; ``required`` names the properties that must be there, all of them by default."""
    names = list(properties) if required is None else required.split()
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


def array(items: Any, **bounds: int) -> Schema:
    return {"type": "array", "items": items, **bounds}


def one_of(*values: Any) -> Schema:
    return {"enum": list(values)}


def text(**bounds: Any) -> Schema:
    return {"type": "string", **bounds}


def whole(low: int | None = None, high: int | None = None) -> Schema:
    bounds = {"minimum": low, "maximum": high}
    return {"type": "integer", **{name: bound for name, bound in bounds.items() if bound is not None}}


def nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def formatted(name: str) -> Schema:
    return {"type": "string", "format": name}


_POINT = record(
    lat={"type": "number", "minimum": -90, "maximum": 90}, lon={"type": "number", "minimum": -180, "maximum": 180}
)
_ADDRESS = record(
    "street city country",
    street=TEXT,
    city=TEXT,
    zip=text(pattern="^[0-9]{5}$"),
    country=text(minLength=2, maxLength=2),
)
_LINE = record(sku=text(pattern="^[A-Z]{3}-[0-9]{4}$"), quantity=whole(1, 999), price=REAL)
_WIDE_KINDS = (TEXT, WHOLE, REAL, FLAG, one_of("low", "medium", "high"), formatted("date"), array(TEXT), nullable(TEXT))


def _wide(count: int, *, required: bool) -> Schema:
    fields = {f"field_{i:02}_{chr(97 + i % 26)}": _WIDE_KINDS[i % len(_WIDE_KINDS)] for i in range(count)}
    return record(None if required else "", **fields)


_BY_NAME: dict[str, Schema | bool] = {
    # calls of tools
    "weather": record("location", location=TEXT, unit=one_of("celsius", "fahrenheit"), days=whole(1, 14)),
    "search the web": record("query", query=text(minLength=1, maxLength=200), limit=whole(1, 50), safe=FLAG),
    "send mail": record(
        "to subject body",
        to=array(formatted("email"), minItems=1, maxItems=3),
        cc=array(formatted("email"), maxItems=2),
        subject=text(maxLength=80),
        body=TEXT,
    ),
    "book a flight": record(
        origin=text(pattern="^[A-Z]{3}$"),
        destination=text(pattern="^[A-Z]{3}$"),
        date=formatted("date"),
        cabin=one_of("economy", "business", "first"),
        passengers=whole(1, 9),
    ),
    "run SQL": record("query", query=TEXT, timeout_ms=whole(0, 60000), read_only={"const": True}),
    "create an event": record(
        "title start",
        title=TEXT,
        start=formatted("date-time"),
        end=formatted("date-time"),
        attendees=array(formatted("email"), maxItems=5),
        reminders=array(whole(0, 1440), maxItems=3),
    ),
    "edit a file": record(
        path=text(pattern="^(/[a-z0-9_.-]+)+$"), edits=array(record(line=whole(1), text=TEXT), minItems=1, maxItems=4)
    ),
    "calculator": record(operation=one_of("add", "subtract", "multiply", "divide"), a=REAL, b=REAL),
    "no arguments": record(),
    "one of several tools": {
        "anyOf": [
            record(name={"const": "get_time"}, arguments=record(zone=TEXT)),
            record(name={"const": "get_stock"}, arguments=record(symbol=text(pattern="^[A-Z]{1,5}$"))),
            record(name={"const": "stop"}, arguments=record()),
        ]
    },
    "several calls": array(
        record(name=one_of("a", "b"), arguments=record("x", x=WHOLE, y=WHOLE)), minItems=1, maxItems=3
    ),
    # things people extract
    "character": record(
        name=TEXT,
        house=one_of("Gryffindor", "Hufflepuff", "Ravenclaw", "Slytherin"),
        wand=record(wood=TEXT, core=TEXT, length=REAL),
        alive=FLAG,
        patronus=nullable(TEXT),
        year=whole(1, 7),
    ),
    "person": record(
        "name age",
        name=TEXT,
        age=whole(0, 150),
        mail=formatted("email"),
        phones=array(text(pattern=r"^\+?[0-9 ]{5,15}$"), maxItems=3),
    ),
    "address": _ADDRESS,
    "customer": record("id name", id=formatted("uuid"), name=TEXT, billing=_ADDRESS, shipping=nullable(_ADDRESS)),
    "order": record(id=whole(1), lines=array(_LINE, minItems=1, maxItems=5), paid=FLAG, note=nullable(TEXT)),
    "invoice": record(
        number=text(pattern="^INV-[0-9]{6}$"),
        issued=formatted("date"),
        total={"type": "number", "minimum": 0, "multipleOf": 0.25},
        currency=one_of("EUR", "USD", "GBP"),
    ),
    "sentiment": record(
        label=one_of("positive", "neutral", "negative"), score={"type": "number", "minimum": 0, "maximum": 1}
    ),
    "classification": one_of("spam", "ham", "unsure"),
    "entities": array(record(text=TEXT, kind=one_of("person", "place", "organisation"), start=whole(0), end=whole(0))),
    "chain of thought": record(reasoning=TEXT, answer=WHOLE),
    "steps": record(steps=array(record(explanation=TEXT, output=TEXT), minItems=1), final=TEXT),
    "recipe": record(
        "title ingredients",
        title=TEXT,
        serves=whole(1, 20),
        ingredients=array(record("name", name=TEXT, grams=REAL)),
        vegan=FLAG,
    ),
    "review": record(
        "stars", stars=whole(1, 5), title=text(maxLength=60), tags=array(one_of("food", "service", "price"), maxItems=3)
    ),
    "movie": record(
        title=TEXT,
        year=whole(1888, 2100),
        genres=array(one_of("drama", "comedy", "horror", "documentary"), minItems=1),
        rating=nullable(REAL),
    ),
    "resume": record(
        "name experience",
        name=TEXT,
        experience=array(
            record("company from", company=TEXT, **{"from": formatted("date"), "to": nullable(formatted("date"))}),
            maxItems=4,
        ),
        skills=array(text(maxLength=30), maxItems=6),
    ),
    "sensor": record(
        id=formatted("uuid"),
        at=formatted("date-time"),
        host=formatted("ipv4"),
        values=array(REAL, minItems=3, maxItems=3),
    ),
    "route": record(points=array(_POINT, minItems=2, maxItems=6), metres=whole(0)),
    "chess move": record(move=text(pattern="^[a-h][1-8][a-h][1-8][qrbn]?$"), check=FLAG),
    "colour": {"anyOf": [text(pattern="^#[0-9a-f]{6}$"), record(r=whole(0, 255), g=whole(0, 255), b=whole(0, 255))]},
    "translation": record(language=text(pattern="^[a-z]{2}(-[A-Z]{2})?$"), text=TEXT),
    # shapes of schemas
    "text": TEXT,
    "number": REAL,
    "whole number": WHOLE,
    "flag": FLAG,
    "nothing": {"type": "null"},
    "constants": one_of(1, -2.5, 'a "quoted" one', True, None, [1, "b"], {"k": [{}]}),
    "one constant": {"const": {"a": [1, 2, {"b": None}], "c": "d\n"}},
    "odd names": record(**{'a "quoted" name': WHOLE, "back\\slash": WHOLE, "emoji 🧪": FLAG, "": FLAG, "tab\t": TEXT}),
    "odd constants": one_of("\u0001", "line\nbreak", "naïve", "日本語", "🧪", "\x7f"),
    "lists of lists": array(array(array(WHOLE, maxItems=2), maxItems=2), maxItems=2),
    "tuple": {"type": "array", "prefixItems": [TEXT, WHOLE, FLAG], "minItems": 2},
    "tuple with a tail": {"type": "array", "prefixItems": [TEXT, WHOLE], "items": FLAG, "maxItems": 5},
    "old tuple": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "array",
        "items": [TEXT, WHOLE],
        "additionalItems": False,
    },
    "several types": {"type": ["string", "integer", "null"]},
    "all optional": record("", a=WHOLE, b=TEXT, c=FLAG, d=array(WHOLE)),
    "first optional": record("c", a=WHOLE, b=WHOLE, c=WHOLE),
    "middle optional": record("a c", a=WHOLE, b=WHOLE, c=WHOLE),
    "at least two": {**record("", a=WHOLE, b=WHOLE, c=WHOLE), "minProperties": 2},
    "at most two": {**record("a", a=WHOLE, b=WHOLE, c=WHOLE), "maxProperties": 2},
    "counts": {"type": "object", "additionalProperties": whole(0, 9), "maxProperties": 3},
    "counts and a total": {
        "type": "object",
        "properties": {"total": WHOLE},
        "required": ["total"],
        "additionalProperties": WHOLE,
        "maxProperties": 4,
    },
    "headers": {
        "type": "object",
        "patternProperties": {"^x-[a-z]{1,8}$": text(maxLength=10)},
        "additionalProperties": False,
        "maxProperties": 3,
    },
    "names from a list": {
        "type": "object",
        "propertyNames": {"enum": ["en", "de", "fr"]},
        "additionalProperties": text(maxLength=20),
        "maxProperties": 3,
    },
    "lengths": record(code=text(minLength=3, maxLength=3), short=text(maxLength=8), long=text(minLength=20)),
    "pattern and length": record(
        slug=text(pattern="^[a-z0-9]+(-[a-z0-9]+)*$", maxLength=20, minLength=4),
        part=text(pattern="ab+c", maxLength=10),
    ),
    "bounds": record(
        a=whole(-17, 1234),
        b={"type": "number", "exclusiveMinimum": -0.5, "exclusiveMaximum": 0.125},
        c={"type": "integer", "exclusiveMinimum": 10},
        d={"type": "number", "maximum": -3.5},
    ),
    "multiples": record(
        a={"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 1000},
        b={"type": "number", "multipleOf": 0.5, "minimum": 0, "maximum": 10},
    ),
    "formats": record(
        **{name: formatted(name) for name in ("date", "time", "date-time", "uuid", "email", "ipv4", "ipv6", "duration")}
    ),
    "addresses": record(
        **{name.replace("-", "_"): formatted(name) for name in ("hostname", "uri", "uri-reference", "json-pointer")}
    ),
    "bytes": {"type": "string", "contentEncoding": "base64", "maxLength": 40},
    "merged": {
        "allOf": [
            record("a", a=WHOLE, b=TEXT) | {"additionalProperties": True},
            {"properties": {"b": {"maxLength": 5}}, "required": ["b"]},
            {"additionalProperties": False, "properties": {"a": {"minimum": 0}, "b": {}}},
        ]
    },
    "discriminated": {
        "oneOf": [
            record(kind={"const": "circle"}, radius=REAL),
            record(kind={"const": "square"}, side=REAL),
            record(kind=one_of("line", "arrow"), to=_POINT),
        ]
    },
    "definitions": {
        "$ref": "#/$defs/pair",
        "$defs": {
            "pair": record(left={"$ref": "#/$defs/side"}, right={"$ref": "#/$defs/side"}),
            "side": record("w", w=WHOLE, h=WHOLE),
        },
    },
    "old definitions": {
        "type": "object",
        "properties": {"a": {"$ref": "#/definitions/x~1y"}},
        "required": ["a"],
        "definitions": {"x/y": {"type": "string", "maxLength": 3}},
    },
    "6 fields": record(
        id=WHOLE, name=TEXT, role=one_of("admin", "user", "guest"), active=FLAG, score=REAL, joined=formatted("date")
    ),
    "62 fields": _wide(62, required=True),
    "62 optional fields": _wide(62, required=False),
    "200 values": record(country=one_of(*(f"country number {i * 7919 % 1000}" for i in range(200)))),
    # what no automaton holds
    "anything": True,
    "any object": {"type": "object"},
    "any array": {"type": "array"},
    "payload": record("id", id=WHOLE, payload={"type": "object"}, meta=True),
    "tree": {
        "$ref": "#/$defs/node",
        "$defs": {"node": record("value", value=WHOLE, children=array({"$ref": "#/$defs/node"}))},
    },
    "linked list": record("value", value=text(maxLength=5), next={"anyOf": [{"$ref": "#"}, {"type": "null"}]}),
    "expression": {
        "$ref": "#/$defs/e",
        "$defs": {
            "e": {
                "oneOf": [WHOLE, record(op=one_of("+", "*"), args=array({"$ref": "#/$defs/e"}, minItems=2, maxItems=3))]
            }
        },
    },
    "menu": {
        "$ref": "#/$defs/item",
        "$defs": {
            "item": record(
                "label",
                label=text(maxLength=12),
                shortcut=text(pattern="^[a-z]$"),
                items=array({"$ref": "#/$defs/item"}, maxItems=3),
            )
        },
    },
    "JSON of strings": {
        "anyOf": [text(maxLength=6), array({"$ref": "#"}), {"type": "object", "additionalProperties": {"$ref": "#"}}]
    },
    "long text": record(title=text(maxLength=80), body=text(maxLength=4000)),
    "many lines": record(lines=array(_LINE, maxItems=400)),
    "multiples in a tree": record(
        "n", n={"type": "integer", "multipleOf": 3, "minimum": 0}, kids=array({"$ref": "#"}, maxItems=2)
    ),
}

POLICIES = (Whitespace.SPACED, Whitespace.COMPACT, Whitespace.FLEXIBLE)


def spec_of(schema: Schema | bool, whitespace: Whitespace = Whitespace.SPACED) -> GrammarSpec:
    return GrammarSpec(Kind.JSON_SCHEMA, json.dumps(schema), whitespace)


SCHEMAS: list[Named] = [
    (f"{name}, {whitespace}", spec_of(schema, whitespace))
    for index, (name, schema) in enumerate(_BY_NAME.items())
    for whitespace in (POLICIES[0], POLICIES[index % 3])[: 1 + bool(index % 3)]
]

_PATTERNS: dict[str, str] = {
    "character": (
        r'\{\n    "name": "[\w\d\s]{1,16}",\n    "house": "(Gryffindor|Slytherin|Ravenclaw|Hufflepuff)",\n'
        r'    "blood": "(pure|half|none)",\n    "job": "(student|teacher|auror)",\n    "wand": \{\n'
        r'        "wood": "[\w\d\s]{1,16}",\n        "core": "[\w\d\s]{1,16}",\n'
        r'        "length": [0-9]{1,2}\.[0-9]{0,2}\n    \},\n    "alive": "(Alive|Deceased)"\n\}'
    ),
    "date": r"[12][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])",
    "time": r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?",
    "IPv4": r"((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)",
    "phone": r"\+?[0-9]{1,3}[ -]?(\([0-9]{2,4}\)[ -]?)?[0-9]{3,4}[ -]?[0-9]{3,4}",
    "mail": r"[a-z0-9._-]{1,20}@[a-z0-9-]{1,20}\.(com|org|net|de)",
    "UUID": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "hex colour": r"#([0-9a-fA-F]{3}){1,2}",
    "signed number": r"[+-]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?",
    "yes or no": r"yes|no|maybe",
    "grade": r"[A-F][+-]?",
    "identifier": r"[A-Za-z_]\w{0,30}",
    "quoted": r'"([^"\\\n]|\\["\\nt])*"',
    "CSV row": r"[^,\n]{1,10}(,[^,\n]{1,10}){2}",
    "list of words": r"([a-z]+ ){0,4}[a-z]+\.",
    "Markdown list": r"(- [^\n]{1,40}\n){1,5}",
    "XML element": r"<b>[^<]{0,20}</b>",
    "think and answer": r"<think>[^<]{0,80}</think>\n(yes|no)",
    "Roman numeral": r"M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{1,3})",
    "binary, even ones": r"(0*10*1)*0*",
    "licence plate": r"[A-Z]{1,3}-[A-Z]{1,2} [1-9][0-9]{0,3}",
    "version": r"v?(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}(-[a-z0-9]+)?",
    "path": r"(/[\w.-]{1,12}){1,4}/?",
    "SELECT": r"SELECT (\*|[a-z]+(, [a-z]+){0,3}) FROM [a-z]+( WHERE [a-z]+ (=|<|>) [0-9]{1,4})?;",
    "Greek": r"[α-ω]{3,12}",
    "CJK": r"[一-龥]{2,8}。",
    "emoji": r"[😀-😏]{1,5}",
    "mixed scripts": r"(naïve|日本語|Ωμέγα|🧪)( (naïve|日本語|Ωμέγα|🧪)){0,3}",
    "any line": r".{0,60}",
    "no vowels": r"[^aeiouAEIOU\n]{1,20}",
    "repeated groups": r"((ab|c){2}d){1,3}",
    "nested choice": r"(a(b(c|d)|e)|f(g|h)){2}",
    "empty or not": r"(|x|xy)",
    "dosage": r"[1-9][0-9]{0,2} ?(mg|ml|g) (once|twice|three times) (daily|a day)",
    "money": r"\$[1-9][0-9]{0,2}(,[0-9]{3}){0,2}\.[0-9]{2}",
    "coordinates": r"-?[0-9]{1,2}\.[0-9]{4}, -?[0-9]{1,3}\.[0-9]{4}",
    "chess": r"([1-9]\. ([NBRQK]?[a-h][1-8]|O-O) ([NBRQK]?[a-h][1-8]|O-O)\n){1,4}",
    "DNA": r"([ACGT]{3} ){2,8}(TAA|TAG|TGA)",
    "reasoning steps": r"(Step [1-9]: [^\n]{1,60}\n){1,4}Answer: -?[0-9]{1,6}",
    "control characters": r"[\x00-\x08]{1,4}",
}

REGEXES: list[Named] = [(name, GrammarSpec(Kind.REGEX, pattern)) for name, pattern in _PATTERNS.items()]
