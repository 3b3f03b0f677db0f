"""Fields that say what an answer must look like: every spelling of one wish is the same grammar."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from shared.grammar import Whitespace
from shared.protocol import Jump
from tests.tokenizer_svc.downstream import CARD
from tokenizer_svc.api_error import ApiError
from tokenizer_svc.grammar.limits import LIMITS
from tokenizer_svc.grammar.spec import Kind
from tokenizer_svc.structure import Structure, StructureFields, check_structured, read_structure

SCHEMA = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"enum": ["é", 1.5, None]}}}
SPACED_OUT = json.dumps(SCHEMA, indent=4, ensure_ascii=True)
GBNF = 'root ::= "a"'

TWINS: list[tuple[Kind, list[dict[str, Any]]]] = [
    (
        Kind.REGEX,
        [{"regex": "[0-9]+"}, {"guided_regex": "[0-9]+"}, {"structured_outputs": {"regex": "[0-9]+"}}],
    ),
    (
        Kind.CHOICE,
        [
            {"choice": ["yes", "no"]},
            {"choice": ["no", "yes", "no"]},
            {"guided_choice": ["yes", "no"]},
            {"structured_outputs": {"choice": ["yes", "no"]}},
        ],
    ),
    (
        Kind.LARK,
        [{"ebnf": GBNF}, {"grammar": GBNF}, {"guided_grammar": GBNF}, {"structured_outputs": {"grammar": GBNF}}],
    ),
    (
        Kind.JSON_SCHEMA,
        [
            {"json_schema": SCHEMA},
            {"json_schema": SPACED_OUT},
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"schema": SCHEMA, "strict": True, "description": "something"},
                }
            },
            {"guided_json": SCHEMA},
            {"guided_json": SPACED_OUT},
            {"structured_outputs": {"json": SCHEMA}},
            {"structured_outputs": {"json": SPACED_OUT}},
            {"json_schema": SCHEMA, "whitespace": "spaced"},
        ],
    ),
    (
        Kind.JSON_OBJECT,
        [
            {"response_format": {"type": "json_object"}},
            {"guided_json_object": True},
            {"structured_outputs": {"json_object": True}},
        ],
    ),
]

FREE: list[dict[str, Any]] = [
    {},
    {"response_format": {"type": "text"}},
    {"response_format": None, "regex": None},
    {"guided_json_object": False},
    {"structured_outputs": {}},
    {"structured_outputs": {"json_object": False, "disable_fallback": False}},
    {"jump_forward": "exact"},
]

BAD: list[tuple[dict[str, Any], str, str]] = [
    # fields, param, part of the message
    ({"regex": "a", "choice": ["b"]}, "choice", "regex and choice both"),
    ({"regex": "a", "guided_regex": "a"}, "guided_regex", "regex and guided_regex both"),
    (
        {"json_schema": {}, "response_format": {"type": "json_object"}},
        "response_format",
        "json_schema and response_format both",
    ),
    (
        {"structured_outputs": {"regex": "a", "json_object": True}},
        "structured_outputs.json_object",
        "structured_outputs.regex and structured_outputs.json_object both",
    ),
    ({"regex": ""}, "regex", "empty"),
    ({"structured_outputs": {"grammar": ""}}, "structured_outputs.grammar", "empty"),
    ({"choice": []}, "choice", "empty list"),
    ({"choice": ["a", ""]}, "choice[1]", "empty"),
    ({"structured_outputs": {"choice": ["", "a"]}}, "structured_outputs.choice[0]", "empty"),
    ({"json_schema": "{"}, "json_schema", "no valid JSON"),
    ({"json_schema": "[" * 100_000}, "json_schema", "no valid JSON"),
    ({"json_schema": "[]"}, "json_schema", "no JSON object"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        "response_format.json_schema.schema",
        "missing",
    ),
    ({"response_format": {"type": "structural_tag", "structures": []}}, "response_format.type", "structural_tag"),
    ({"response_format": {"type": "json_object", "schema": {}}}, "response_format.schema", "json_schema"),
    ({"regex": "a", "jump_forward": "fast"}, "jump_forward", '"canonical", "exact" or "off"'),
    ({"json_schema": {}, "whitespace": "none"}, "whitespace", '"compact", "spaced" or "flexible"'),
    ({"whitespace": "compact"}, "whitespace", "schema"),
    ({"regex": "a", "whitespace": "compact"}, "whitespace", "regex asks for something else"),
    (
        {"structured_outputs": {"regex": "a", "whitespace_pattern": " *"}},
        "structured_outputs.whitespace_pattern",
        "use",
    ),
    ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag", "not supported"),
    ({"regex": "a" * (LIMITS.regex_bytes + 1)}, "regex", "65537 bytes long, at most 65536"),
    ({"grammar": "é" * (LIMITS.lark_bytes // 2 + 1)}, "grammar", "at most 262144"),
    ({"json_schema": {"title": "x" * LIMITS.schema_bytes}}, "json_schema", "at most 262144"),
    ({"choice": ["x" * LIMITS.schema_bytes]}, "choice", "at most 262144"),
]


def read(fields: dict[str, Any], prefix: str = "") -> Structure | None:
    return read_structure(msgspec.convert(fields, StructureFields), prefix)


def asked(fields: dict[str, Any], prefix: str = "") -> Structure:
    structure = read(fields, prefix)
    assert structure is not None
    return structure


@pytest.mark.parametrize(("kind", "spellings"), TWINS)
def test_every_spelling_of_one_wish_has_the_same_key(kind: Kind, spellings: list[dict[str, Any]]) -> None:
    structures = [asked(fields) for fields in spellings]
    assert {structure.spec.kind for structure in structures} == {kind}
    assert len({structure.key for structure in structures}) == 1


def test_different_wishes_have_different_keys() -> None:
    wishes = [spellings[0] for _, spellings in TWINS]
    wishes += [{"regex": GBNF}, {"json_schema": SCHEMA, "whitespace": "compact"}]
    wishes += [{"json_schema": {"properties": dict(reversed(SCHEMA["properties"].items())), "type": "object"}}]  # type: ignore[attr-defined]
    assert len({asked(fields).key for fields in wishes}) == len(wishes)


def test_the_order_of_properties_is_kept() -> None:
    assert asked({"json_schema": SPACED_OUT}).spec.text == json.dumps(SCHEMA, separators=(",", ":"), ensure_ascii=False)


def test_what_asks_for_nothing_leaves_the_answer_free() -> None:
    for fields in FREE:
        assert read(fields) is None, fields


@pytest.mark.parametrize(
    ("value", "jump"),
    [
        (None, Jump.CANONICAL),
        (True, Jump.CANONICAL),
        (False, Jump.OFF),
        ("canonical", Jump.CANONICAL),
        ("exact", Jump.EXACT),
        ("off", Jump.OFF),
    ],
)
def test_jump_forward_is_no_part_of_the_key(value: bool | str | None, jump: Jump) -> None:
    structure = asked({"regex": "a", "jump_forward": value})
    assert structure.grammar.jump is jump
    assert structure.grammar.key == asked({"regex": "a"}).key


def test_whitespace_is_part_of_the_key() -> None:
    for fields in ({"json_schema": SCHEMA}, {"response_format": {"type": "json_object"}}):
        found = [asked(fields | {"whitespace": str(policy)}) for policy in Whitespace]
        assert [structure.spec.whitespace for structure in found] == list(Whitespace)
        assert len({structure.key for structure in found}) == len(Whitespace)


@pytest.mark.parametrize("prefix", ["", "sampling_params", "sampling_params[3]"])
def test_what_is_wrong_is_said_with_its_path(prefix: str) -> None:
    for fields, param, part in BAD:
        with pytest.raises(ApiError) as caught:
            read(fields, prefix)
        error = caught.value
        where = (str(fields)[:100], error.body)
        assert error.status == 400, where
        assert error.body.param == (f"{prefix}.{param}" if prefix else param), where
        assert (part if not prefix else part.replace("regex and", "")) in error.body.message or prefix, where


def test_a_param_is_the_path_of_the_field() -> None:
    assert asked({"regex": "a"}, "sampling_params[1]").param == "sampling_params[1].regex"
    named = {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}
    assert asked(named).param == "response_format.json_schema.schema"


def test_misspelt_fields_of_structured_outputs_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="jsn"):
        read({"structured_outputs": {"jsn": {}}})


def test_a_model_whose_vocabulary_is_not_known_cannot_be_constrained() -> None:
    structure = asked({"regex": "a"})
    with pytest.raises(ApiError, match="not known byte by byte"):
        check_structured(structure, CARD)
    check_structured(structure, msgspec.structs.replace(CARD, structured=True))
