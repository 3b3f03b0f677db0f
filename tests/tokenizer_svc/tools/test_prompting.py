"""Conversations with tools as prompts: through templates that know tools, and through those that do not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shared.chat_template import ChatTemplate, ChatTemplateError
from shared.config import DEFAULT_MODEL
from shared.gguf_header import read_header
from shared.model_files import ModelFiles, locate
from shared.tokenizer import Tokenizer
from tests.tokenizer_svc.tools.templates import (
    LIKE_DEEPSEEK,
    LIKE_LLAMA3,
    LIKE_MISTRAL,
    LIKE_QWEN,
    WITHOUT_SYSTEM,
    WITHOUT_TOOLS,
)
from tests.toy import make_toy_model
from tokenizer_svc.api_error import ApiError
from tokenizer_svc.limits import Limits
from tokenizer_svc.tools.formats import ToolFormat, choose
from tokenizer_svc.tools.prompting import render
from tokenizer_svc.tools.toolbox import Tool, Toolbox
from tokenizer_svc.tools.turns import Turn, have_tools, plain_turns, read_calls

WEATHER = Tool("get_weather", "Looks outside.", {"type": "object", "properties": {"city": {"type": "string"}}}, False)
TOOLBOX = Toolbox((WEATHER,), ("get_weather",), is_required=False, is_parallel=True)
LINE = json.dumps(WEATHER.template_form)


def call(id: str, arguments: str = '{"city": "Köln"}') -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": "get_weather", "arguments": arguments}}


def conversation() -> list[Turn]:
    return [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "tool_calls": read_calls([call("c1"), call("c2", "{}")], "", Limits())},
        {"role": "tool", "content": "rain", "tool_call_id": "c1"},
        {"role": "tool", "content": "sun", "tool_call_id": "c2"},
    ]


def engine(directory: Path, template: str, format: ToolFormat = ToolFormat.HERMES, tool_use: str | None = None) -> Any:
    """What rendering needs of an engine: a real tokenizer with a template."""
    make_toy_model(directory)
    (directory / "chat_template.jinja").write_text(template)
    if tool_use is not None:
        (directory / "additional_chat_templates").mkdir()
        (directory / "additional_chat_templates" / "tool_use.jinja").write_text(tool_use)
    tokenizer = Tokenizer.load(ModelFiles("toy", "huggingface", directory), directory)
    return SimpleNamespace(tokenizer=tokenizer, tool_format=format)


@pytest.mark.parametrize(
    ("source", "knows"),
    [
        (LIKE_QWEN, True),
        (LIKE_LLAMA3, True),
        (WITHOUT_TOOLS, False),
        ("{# tools #}{{ 'tools' }}{{ messages[0].tools }}", False),
        ("{% set tools = [] %}", False),
        ("{% if tools is defined %}x{% endif %}", True),
    ],
)
def test_templates_that_know_tools(source: str, knows: bool) -> None:
    assert ChatTemplate(source, {}).knows_tools is knows


def test_the_format_follows_from_the_template() -> None:
    formats = [choose("auto", ChatTemplate(source, {})) for source in (LIKE_QWEN, LIKE_LLAMA3, WITHOUT_TOOLS)]
    assert formats == [ToolFormat.HERMES, ToolFormat.LLAMA3_JSON, ToolFormat.HERMES]
    assert choose("auto", None) is ToolFormat.HERMES
    marks = {
        "<tool_call>\\n<function=f>\\n<parameter=a>": ToolFormat.QWEN3_CODER,
        "<tool_call>{name}<arg_key>": ToolFormat.GLM,
        "[TOOL_CALLS] [": ToolFormat.MISTRAL,
        "[TOOL_CALLS]f[ARGS]": ToolFormat.MISTRAL_ARGS,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\\n```json": ToolFormat.DEEPSEEK_V3,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>": ToolFormat.DEEPSEEK_V31,
        "ipython: [func_name1(params_name1=params_value1)]": ToolFormat.PYTHONIC,
        "<|tool_list_start|>": ToolFormat.PYTHONIC,
        "<|python_start|> ipython": ToolFormat.LLAMA3_JSON,
    }
    for text, format in marks.items():
        assert choose("auto", ChatTemplate("{{ tools }}{{ '" + text + "' }}", {})) is format
    assert choose("llama3-json", ChatTemplate(LIKE_QWEN, {})) is ToolFormat.LLAMA3_JSON


def test_a_template_that_knows_tools_gets_them(tmp_path: Path) -> None:
    text = render(engine(tmp_path, LIKE_QWEN), conversation(), TOOLBOX, add_generation_prompt=True)
    assert text == (
        f"<|im_start|>system\nBe brief.\n\n# Tools\n<tools>\n{LINE}\n</tools>\n"
        'Write <tool_call>\n{"name": ..., "arguments": ...}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\nWeather?<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln"}}\n</tool_call>'
        '\n<tool_call>\n{"name": "get_weather", "arguments": {}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nrain\n</tool_response><|im_end|>\n"
        "<|im_start|>user\n<tool_response>\nsun\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_template_like_llama_3(tmp_path: Path) -> None:
    turns = conversation()
    del turns[2]["tool_calls"][1], turns[4]
    served = engine(tmp_path, LIKE_LLAMA3, ToolFormat.LLAMA3_JSON)
    text = render(served, turns, TOOLBOX, add_generation_prompt=True)
    assert json.dumps(WEATHER.template_form, indent=4) in text
    assert '{"name": "get_weather", "parameters": {"city": "Köln"}}<|eot_id|>' in text
    assert text.endswith(
        'ipython<|end_header_id|>\n\n"rain"<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n'
    )
    with pytest.raises(ChatTemplateError, match="one call at a time"):
        render(served, conversation(), TOOLBOX)


def test_templates_that_want_ids_of_nine_characters(tmp_path: Path) -> None:
    turns = conversation()
    turns[2]["tool_calls"][1]["id"] = turns[4]["tool_call_id"] = "abcDEF123"
    text = render(engine(tmp_path, LIKE_MISTRAL, ToolFormat.MISTRAL), turns, TOOLBOX)
    ids = re.findall(r'id": "([^"]*)"', text)
    assert ids == [ids[0], "abcDEF123"] * 2
    assert re.fullmatch("[a-zA-Z0-9]{9}", ids[0])


def test_templates_that_want_text_and_no_content(tmp_path: Path) -> None:
    text = render(engine(tmp_path, LIKE_DEEPSEEK, ToolFormat.DEEPSEEK_V3), conversation(), TOOLBOX)
    assert '<｜tool▁sep｜>get_weather\n```json\n{"city": "Köln"}\n```<｜tool▁call▁end｜>' in text


def test_results_without_tools_still_go_through_the_template(tmp_path: Path) -> None:
    text = render(engine(tmp_path, LIKE_QWEN), conversation(), None, add_generation_prompt=False)
    assert "<tools>" not in text
    assert "<tool_response>\nrain" in text


def test_a_model_may_have_a_template_for_tools_alone(tmp_path: Path) -> None:
    served = engine(tmp_path, WITHOUT_TOOLS, tool_use=LIKE_QWEN)
    assert LINE in render(served, conversation(), TOOLBOX)
    assert render(served, conversation()[:2], None) == "[system]Be brief.[user]Weather?"
    assert choose("auto", served.tokenizer.tool_template) is ToolFormat.HERMES


def test_plain_turns_hold_everything(tmp_path: Path) -> None:
    text = render(engine(tmp_path, WITHOUT_TOOLS), conversation(), TOOLBOX)
    system, rest = text.split("[user]Weather?")
    assert system.startswith("[system]Be brief.\n\n")
    assert f"<tools>\n{LINE}\n</tools>" in system
    assert '<tool_call>\n{"name": "<name of the function>", "arguments": {<its arguments>}}\n</tool_call>' in system
    assert rest == (
        '[assistant]<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln"}}\n</tool_call>'
        '\n<tool_call>\n{"name": "get_weather", "arguments": {}}\n</tool_call>'
        "[user]<tool_response>\nrain\n</tool_response>\n<tool_response>\nsun\n</tool_response>"
    )


def test_plain_turns_in_the_other_format() -> None:
    _, _, said, _ = plain_turns(conversation(), TOOLBOX, ToolFormat.LLAMA3_JSON)
    assert said["content"] == (
        '{"name": "get_weather", "parameters": {"city": "Köln"}}; {"name": "get_weather", "parameters": {}}'
    )


def test_tools_get_a_system_message_of_their_own(tmp_path: Path) -> None:
    text = render(engine(tmp_path, WITHOUT_TOOLS), [{"role": "user", "content": "hi"}], TOOLBOX)
    assert text.startswith("[system]You can call functions.")
    assert text.endswith("[user]hi")


def test_a_template_without_system_messages_gets_the_tools_with_the_first_question(tmp_path: Path) -> None:
    served = engine(tmp_path, WITHOUT_SYSTEM)
    text = render(served, [{"role": "user", "content": "hi"}], TOOLBOX)
    assert text.startswith("[user]You can call functions.")
    assert text.endswith("\n\nhi")
    with pytest.raises(ChatTemplateError, match="alternate"):
        render(served, conversation(), TOOLBOX)


def test_conversations_without_tools_are_left_alone(tmp_path: Path) -> None:
    turns = conversation()[:2]
    assert not have_tools(turns)
    assert render(engine(tmp_path, WITHOUT_TOOLS), turns, None) == "[system]Be brief.[user]Weather?"


def test_the_packaged_model_is_told_of_tools(tmp_path: Path) -> None:
    path = locate(DEFAULT_MODEL, tmp_path).path
    source = read_header(path, lambda key: key == "tokenizer.chat_template").metadata["tokenizer.chat_template"]
    served = engine(tmp_path, source, choose("auto", ChatTemplate(source, {})))
    assert not served.tokenizer.tool_template.knows_tools
    text = render(served, conversation()[1:], TOOLBOX, add_generation_prompt=True)
    assert text.startswith("<|im_start|>system\nYou can call functions.")
    assert LINE in text
    assert text.endswith(
        "<|im_start|>user\n<tool_response>\nrain\n</tool_response>\n<tool_response>\nsun\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_results_get_the_name_of_their_call(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.name }};{% endfor %}{{ tools }}"
    assert render(engine(tmp_path, template), conversation(), None).startswith(";;;get_weather;get_weather;")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [("", {}), ('{"a": 1}', {"a": 1}), ("[1]", "[1]"), ("{broken", "{broken"), ("[" * 100_000, "[" * 100_000)],
)
def test_arguments_become_objects_where_they_are_some(arguments: str, expected: Any) -> None:
    [read] = read_calls([call("c", arguments)], "m", Limits())
    assert read["function"]["arguments"] == expected


@pytest.mark.parametrize(
    ("calls", "path"),
    [
        ("x", "m"),
        ([1], "m[0]"),
        ([{}], "m[0].id"),
        ([{"id": "c", "type": "function"}], "m[0].function"),
        ([{"id": "c", "type": "custom", "custom": {}}], "m[0].type"),
        ([{"id": "c", "function": {"name": "f"}}], "m[0].function.arguments"),
        ([{"id": "c", "function": {"name": "f", "arguments": {}}}], "m[0].function.arguments"),
        ([call("a")] * 129, "m"),
    ],
)
def test_malformed_calls_are_refused_by_path(calls: Any, path: str) -> None:
    with pytest.raises(ApiError) as refused:
        read_calls(calls, "m", Limits())
    assert refused.value.body.param == path
