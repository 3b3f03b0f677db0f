"""What tools ask of the answer's grammar, alone and beside other fields."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.grammar import Whitespace
from shared.protocol import Jump
from tests.tokenizer_svc.tools.test_toolbox import WEATHER, named, read, tool
from tokenizer_svc.api_error import ApiError
from tokenizer_svc.grammar.spec import Kind
from tokenizer_svc.structure import StructureFields
from tokenizer_svc.tools.formats import ToolFormat
from tokenizer_svc.tools.grammar import read_structure_with

TOOLS = [tool("get_weather", description="Looks outside.", parameters=WEATHER), tool("get_time")]


def spec_of(*fields: Any, format: ToolFormat = ToolFormat.HERMES) -> Any:
    structure = read_structure_with(read(*fields), StructureFields(), format)
    assert structure is not None
    assert (structure.spec.kind, structure.param) == (Kind.TOOLS, "tools")
    return json.loads(structure.spec.text)


def test_required_calls_are_a_grammar_of_all_tools() -> None:
    nothing = {"type": "object", "properties": {}, "additionalProperties": False}
    assert spec_of(TOOLS, "required") == {
        "format": "hermes",
        "tools": [{"name": "get_weather", "parameters": WEATHER}, {"name": "get_time", "parameters": nothing}],
        "required": True,
        "parallel": True,
    }


def test_properties_keep_their_order() -> None:
    properties = {name: {"type": "string"} for name in "zebra"}
    spec = spec_of([tool(parameters={"type": "object", "properties": properties})], "required")
    assert list(spec["tools"][0]["parameters"]["properties"]) == list("zebra")


def test_a_named_function_is_the_only_one_and_called_once() -> None:
    spec = spec_of(TOOLS, named("get_time"), format=ToolFormat.LLAMA3_JSON)
    assert [tool["name"] for tool in spec["tools"]] == ["get_time"]
    assert (spec["format"], spec["required"], spec["parallel"]) == ("llama3-json", True, False)


def test_strict_tools_bind_an_answer_that_may_be_text() -> None:
    spec = spec_of([*TOOLS, tool("f", strict=True)], "auto")
    assert len(spec["tools"]) == 3
    assert (spec["required"], spec["parallel"]) == (False, True)


def test_a_free_answer_has_no_grammar() -> None:
    assert read_structure_with(read(TOOLS), StructureFields(), ToolFormat.HERMES) is None
    assert read_structure_with(None, StructureFields(), ToolFormat.HERMES) is None


def test_descriptions_make_no_difference_to_the_key() -> None:
    toolboxes = [read([tool("f", description=text)], "required") for text in ("a", "b")]
    keys = {read_structure_with(box, StructureFields(), ToolFormat.HERMES).key for box in toolboxes}  # type: ignore[union-attr]
    assert len(keys) == 1


def test_whitespace_and_jumps_are_as_for_schemas() -> None:
    fields = StructureFields(whitespace="compact", jump_forward="exact")
    structure = read_structure_with(read(TOOLS, "required"), fields, ToolFormat.HERMES)
    assert structure is not None
    assert (structure.spec.whitespace, structure.jump) == (Whitespace.COMPACT, Jump.EXACT)


def test_without_tools_other_grammars_are_read_as_ever() -> None:
    structure = read_structure_with(None, StructureFields(regex="a"), ToolFormat.HERMES)
    assert structure is not None
    assert structure.spec.kind is Kind.REGEX


FORM = {"type": "object", "properties": {"sky": {"type": "string"}}, "required": ["sky"]}


def test_a_form_beside_free_tools_is_either() -> None:
    toolbox = read(TOOLS)._replace(has_form=True)
    structure = read_structure_with(toolbox, StructureFields(json_schema=FORM), ToolFormat.QWEN3_CODER)
    assert structure is not None
    assert (structure.spec.kind, structure.param) == (Kind.EITHER, "json_schema")
    either = json.loads(structure.spec.text)
    assert either["calls"]["format"] == "hermes"
    assert either["calls"]["required"]
    assert [tool["name"] for tool in either["calls"]["tools"]] == ["get_weather", "get_time"]
    assert (either["kind"], json.loads(either["text"])) == ("json_schema", FORM)


@pytest.mark.parametrize("choice", ["required", named("get_time")])
def test_an_answer_that_must_be_calls_has_no_text_to_have_a_form(choice: Any) -> None:
    alone = read_structure_with(read(TOOLS, choice), StructureFields(), ToolFormat.HERMES)
    assert read_structure_with(read(TOOLS, choice), StructureFields(json_schema=FORM), ToolFormat.HERMES) == alone


@pytest.mark.parametrize("choice", ["required", named("get_time")])
def test_words_that_are_bad_cannot_be_kept_out_of_calls(choice: Any) -> None:
    with pytest.raises(ApiError, match="bad_words") as refused:
        read_structure_with(read(TOOLS, choice), StructureFields(bad_words=["a"]), ToolFormat.HERMES)
    assert refused.value.status == 400
    assert refused.value.body.param == "tools"
    free = read_structure_with(read(TOOLS), StructureFields(bad_words=["a"]), ToolFormat.HERMES)
    assert free is not None
    assert free.spec.kind is Kind.BAD_WORDS
