"""Calls in streamed text: a reference that reads whole texts, and every way to cut them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer_svc.parts import Arguments, Call, CallPart, Content, Ended, Reply, Started, reply_of
from tokenizer_svc.tools.call_body import Functions
from tokenizer_svc.tools.formats import SYNTAX, ToolFormat, bound
from tokenizer_svc.tools.stream import ToolStream

NAMES: Functions = {name: {} for name in ("f", "get_weather", "get_wind")}
HERMES, LLAMA = SYNTAX[ToolFormat.HERMES], SYNTAX[ToolFormat.LLAMA3_JSON]
FORMATS = pytest.mark.parametrize("format", list(ToolFormat))


def events(format: ToolFormat, pieces: Sequence[str]) -> list[CallPart]:
    stream = ToolStream(SYNTAX[format], NAMES)
    found = [event for piece in pieces for event in stream.push(piece)]
    return found + stream.finish()


def joined(found: Sequence[CallPart]) -> list[CallPart]:
    """Neighbouring content and neighbouring arguments in one event."""
    merged: list[CallPart] = []
    for event in found:
        last = merged[-1] if merged else None
        if isinstance(event, Content) and isinstance(last, Content):
            merged[-1] = Content(last.text + event.text)
        elif isinstance(event, Arguments) and isinstance(last, Arguments):
            merged[-1] = Arguments(last.call, last.text + event.text)
        else:
            merged.append(event)
    return merged


def reply(format: ToolFormat, text: str) -> Reply:
    return reply_of(events(format, [text]))


def written(format: ToolFormat, calls: Sequence[tuple[str, str]]) -> str:
    """Calls as the format has them."""
    syntax = SYNTAX[format]
    if not calls:
        return ""
    match format:
        case ToolFormat.PYTHONIC:
            return f"[{', '.join(python_call(*call) for call in calls)}]"
        case ToolFormat.QWEN3_CODER:
            return "\n".join(function_tags(*call) for call in calls)
        case ToolFormat.GLM:
            return "\n".join(key_tags(*call) for call in calls)
        case _:
            frames = [(*syntax.frame(name), arguments) for name, arguments in calls]
            texts = [f"{before}{arguments}{after}" for before, after, arguments in frames]
            return f"{syntax.begin}{syntax.joiner.join(texts)}{syntax.end}"


def python_call(name: str, arguments: str) -> str:
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in json.loads(arguments).items())})"


def function_tags(name: str, arguments: str) -> str:
    values = {k: v if isinstance(v, str) else json.dumps(v) for k, v in json.loads(arguments).items()}
    parameters = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in values.items())
    return f"<tool_call>\n<function={name}>\n{parameters}</function>\n</tool_call>"


def key_tags(name: str, arguments: str) -> str:
    values = {k: v if isinstance(v, str) else json.dumps(v) for k, v in json.loads(arguments).items()}
    pairs = "".join(f"<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n" for key, value in values.items())
    return f"<tool_call>{name}\n{pairs}</tool_call>"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
arguments = st.builds(
    json.dumps,
    st.dictionaries(st.text(), json_values, max_size=3),
    ensure_ascii=st.booleans(),
    indent=st.none() | st.just(1),
)
calls = st.lists(st.tuples(st.sampled_from(list(NAMES)), arguments), max_size=3)

FRAGMENTS = (
    "<tool_call>", "</tool_call>", "<|python_tag|>", "<", "</", "<tool", "\n", " ", ";", "; ", "{", "}", "[", "]",
    '"', "\\", ",", ":", '"name"', '"arguments"', '"parameters"', '"type": "function"', '"f"', '"g"', "get_w", "1",
    '{"name": "f", "arguments": ', '{"a": "}"}', "{}", "text", "é",
    '{"arguments": {"x": [1]}, "name": "f"}', written(ToolFormat.HERMES, [("f", '{"a": 1}')]),
    *(written(format, [("f", '{"a": 1}')]) for format in ToolFormat),
    *(mark for s in SYNTAX.values() for mark in s.marks), "f(", "f(a=1", "[f()", "(", ")", "=", "'", "True",
    "<function=f>", "<parameter=a>", "</parameter>", "</function>",
    "f<arg_key>a</arg_key><arg_value>", "</arg_value>", "```json", "function",
)  # fmt: skip
"""What nearly calls are made of."""

rubble = st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join)


def cut(text: str, at: Sequence[int]) -> list[str]:
    places = sorted({place % (len(text) + 1) for place in at})
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


WRITES_JSON = pytest.mark.parametrize("format", [format for format in ToolFormat if bound(format) is format])
BEFORE = st.sampled_from(["", "Let me see.", "a < b\n\n", "  \n"])


@WRITES_JSON
@given(before=BEFORE, calls=calls, at=st.lists(st.integers(0, 999)))
@settings(derandomize=True, deadline=None)
def test_written_calls_are_read_back(
    format: ToolFormat, before: str, calls: list[tuple[str, str]], at: list[int]
) -> None:
    if SYNTAX[format].bare and before.strip():
        before = ""  # an object within a text is no call there
    text = before + written(format, calls)
    found = reply_of(events(format, cut(text, at)))
    assert found.calls == tuple(Call(name, arguments, True) for name, arguments in calls)
    assert found.content == (before if before.strip() or not calls else "")


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
keys = st.from_regex(r"[a-z_]{1,4}", fullmatch=True)


@pytest.mark.parametrize("format", [ToolFormat.PYTHONIC, ToolFormat.QWEN3_CODER, ToolFormat.GLM])
@given(
    before=BEFORE,
    values=st.lists(
        st.tuples(
            st.sampled_from(list(NAMES)),
            st.dictionaries(keys, plain_values, max_size=3),
            st.dictionaries(keys.map("s".__add__), st.text(alphabet=" \n\"'\\</abép>=\t"), max_size=2),
        ),
        max_size=3,
    ),
    at=st.lists(st.integers(0, 999)),
)
@settings(derandomize=True, deadline=None)
def test_values_become_json(
    format: ToolFormat, before: str, values: list[tuple[str, dict[str, object], dict[str, str]]], at: list[int]
) -> None:
    """What is a string by its schema stays the text that it is, others are what they say."""
    if format is ToolFormat.PYTHONIC and before.strip():
        before = ""
    calls = [(name, json.dumps({**others, **strings})) for name, others, strings in values]
    names = {key for _, _, strings in values for key in strings}
    schema = {"properties": {key: {"type": "string"} for key in names}}
    stream = ToolStream(SYNTAX[format], dict.fromkeys(NAMES, schema))
    parts = [part for piece in cut(before + written(format, calls), at) for part in stream.push(piece)]
    found = reply_of(parts + stream.finish())
    assert [(call.name, json.loads(call.arguments)) for call in found.calls] == [
        (name, json.loads(arguments)) for name, arguments in calls
    ]
    assert all(call.is_complete for call in found.calls)
    assert found.content == (before if before.strip() or not calls else "")


@FORMATS
@given(text=rubble, at=st.lists(st.integers(0, 999)))
@settings(derandomize=True, deadline=None, max_examples=500)
def test_events_do_not_depend_on_how_the_text_was_cut(format: ToolFormat, text: str, at: list[int]) -> None:
    whole = joined(events(format, [text]))
    assert joined(events(format, cut(text, at))) == whole
    assert joined(events(format, list(text))) == whole


FRAME = re.compile(
    r'(?:\s|;|<tool_call>|<\|python_(?:tag|start|end)\|>|"id": "[^"\\]*"'
    r'|"name"|"arguments"|"parameters"|"type"|"function"|[{}:,]'
    r"|</?t?o?o?l?_?c?a?l?l?>?|\"(?:n?a?m?e?|a?r?g?u?m?e?n?t?s?|p?a?r?a?m?e?t?e?r?s?|t?y?p?e?|f?u?n?c?t?i?o?n?))*"
)


@FORMATS
@given(text=rubble)
@settings(derandomize=True, deadline=None, max_examples=500)
def test_content_is_all_there_is_without_calls_and_in_order_with_them(format: ToolFormat, text: str) -> None:
    found = events(format, [text])
    contents = [event.text for event in found if isinstance(event, Content)]
    if not any(isinstance(event, Started) for event in found):
        assert "".join(contents) == text
    position = 0
    for part in contents:
        place = text.find(part, position)
        assert place >= 0
        position = place + len(part)


@pytest.mark.parametrize("format", [ToolFormat.HERMES, ToolFormat.LLAMA3_JSON])
@given(text=rubble)
@settings(derandomize=True, deadline=None, max_examples=500)
def test_nothing_is_lost_but_the_frame_of_calls(format: ToolFormat, text: str) -> None:
    """Content, names and arguments come back in the order of the text, and what lies between is frame."""
    found = joined(events(format, [text]))
    calls = sum(isinstance(event, Started) for event in found)
    if not calls:
        assert "".join(event.text for event in found if isinstance(event, Content)) == text
        return
    position = 0
    names: list[str] = []  # of a call whose name may stand behind its arguments
    for event in found:
        match event:
            case Started(_, name):
                names.append(name)
            case Content(part) | Arguments(_, part):
                place = text.find(part, position)
                while place >= 0 and not is_frame(text[position:place], names):
                    place = text.find(part, place + 1)
                assert place >= 0, (event, text[position:])
                position = place + len(part)
            case Ended():
                pass
    assert is_frame(text[position:], names)


def is_frame(text: str, names: Sequence[str]) -> bool:
    for name in names:
        text = text.replace(f'"{name}"', "")
    return FRAME.fullmatch(text) is not None


@FORMATS
@given(text=st.text() | rubble)
@settings(derandomize=True, deadline=None)
def test_events_are_well_formed(format: ToolFormat, text: str) -> None:
    """Calls are counted from 0, one after the other: started, arguments, ended. Whole arguments balance."""
    current, is_open = -1, False
    for event in events(format, list(text)):
        match event:
            case Started(call, name):
                assert (call, is_open) == (current + 1, False)
                assert name in NAMES
                current, is_open = call, True
            case Arguments(call, part):
                assert (call, is_open) == (current, True)
                assert part
            case Ended(call, _):
                assert (call, is_open) == (current, True)
                is_open = False
            case Content(part):
                assert part
                assert not is_open
    assert not is_open


def test_text_comes_at_once_and_markers_do_not() -> None:
    stream = ToolStream(HERMES, NAMES)
    assert stream.push("I'll look") == [Content("I'll look")]
    assert stream.push(". <tool") == [Content(". ")]
    assert stream.push("_box> or ") == [Content("<tool_box> or ")]
    assert stream.push("<tool_call>\n") == []
    assert stream.push('{"name": "get_w') == []
    assert stream.push('eather", "arguments": ') == []
    assert stream.push('{"ci') == [Started(0, "get_weather"), Arguments(0, '{"ci')]
    assert stream.push('ty": "Rom') == [Arguments(0, 'ty": "Rom')]
    assert stream.push('e"}}\n</tool') == [Arguments(0, 'e"}'), Ended(0, is_complete=True)]
    assert stream.push("_call>\n") == []
    assert stream.finish() == []


def tag(text: str) -> str:
    return f"<tool_call>\n{text}\n</tool_call>"


F = '{"name": "f", "arguments": {}}'
P = '{"name": "f", "parameters": {}}'

CALLS: list[tuple[str, ToolFormat, str, str, list[Call]]] = [
    ("name last", ToolFormat.HERMES, tag('{"arguments": {"}": 1}, "name": "f"}'), "", [Call("f", '{"}": 1}', True)]),
    ("outer brace missing", ToolFormat.HERMES, tag(F[:-1]) + " done", " done", [Call("f", "{}", True)]),
    ("both braces missing", ToolFormat.HERMES, tag(F[:-2]), "", [Call("f", "{\n", False)]),
    ("wrong bracket", ToolFormat.HERMES, tag(F[:-2] + "]"), "]\n</tool_call>", [Call("f", "{", False)]),
    ("closing tag missing", ToolFormat.HERMES, f"<tool_call>{F}\n<tool_call>{F}", "", [Call("f", "{}", True)] * 2),
    ("a key too many", ToolFormat.HERMES, f'<tool_call>{F[:-1]}, "id": 7}}', ', "id": 7}', [Call("f", "{}", True)]),
    ("marker twice", ToolFormat.HERMES, f"<tool_call>{tag(F)}", "<tool_call>", [Call("f", "{}", True)]),
    ("type first", ToolFormat.LLAMA3_JSON, '{"type": "function", ' + P[1:], "", [Call("f", "{}", True)]),
    ("type last", ToolFormat.LLAMA3_JSON, P[:-1] + ', "type": "function"}', "", [Call("f", "{}", True)]),
    ("python tag", ToolFormat.LLAMA3_JSON, "<|python_tag|>" + P, "", [Call("f", "{}", True)]),
    ("an id", ToolFormat.HERMES, tag(F[:-1] + ', "id": "x1"}'), "", [Call("f", "{}", True)]),
    ("a list", ToolFormat.MISTRAL, f"[TOOL_CALLS] [{F}, {F}]", "", [Call("f", "{}", True)] * 2),
    ("a list after text", ToolFormat.MISTRAL, f"Ok.[TOOL_CALLS][{F}]\n done", "Ok.\n done", [Call("f", "{}", True)]),
    ("marks", ToolFormat.MISTRAL_ARGS, "[TOOL_CALLS]f[ARGS]{}[TOOL_CALLS]f[ARGS]{}", "", [Call("f", "{}", True)] * 2),
    ("no marks", ToolFormat.MISTRAL, '[TOOL_CALLS]f{"a": 1}', "", [Call("f", '{"a": 1}', True)]),
    ("call id", ToolFormat.MISTRAL, "[TOOL_CALLS]f[CALL_ID]aB3[ARGS]{}", "", [Call("f", "{}", True)]),
    ("cut list", ToolFormat.MISTRAL, f"[TOOL_CALLS][{F[:-2]}", "", [Call("f", "{", False)]),
    ("python", ToolFormat.PYTHONIC, "[f(), get_wind(to='a\\'b', n=[1, (2,)])]", "",
     [Call("f", "{}", True), Call("get_wind", '{"to": "a\'b", "n": [1, [2]]}', True)]),
    ("python, marked", ToolFormat.PYTHONIC, "<|python_start|>[f(a=True)]<|python_end|>", "",
     [Call("f", '{"a": true}', True)]),
    ("LFM2", ToolFormat.PYTHONIC, "<|tool_call_start|>[f(a=null)]<|tool_call_end|>Done.", "Done.",
     [Call("f", '{"a": null}', True)]),
    ("a bad second argument", ToolFormat.PYTHONIC, "[f(a=1, b=g())]", ")]", [Call("f", '{"a": 1', False)]),
    ("tags", ToolFormat.QWEN3_CODER,
     ("<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\nx\n  y\n</parameter>\n</function>\n"
     "</tool_call>"), "", [Call("f", '{"a": 1, "b": "x\\n  y"}', True)]),
    ("tags without parameters", ToolFormat.QWEN3_CODER, "<tool_call>\n<function=f>\n</function>\n</tool_call>", "",
     [Call("f", "{}", True)]),
    ("cut tags", ToolFormat.QWEN3_CODER, "<tool_call>\n<function=f>\n<parameter=a>\n1", "",
     [Call("f", '{"a": ', False)]),
    ("keys", ToolFormat.GLM, "Ok.\n<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>[1]</arg_value>\n</tool_call>",
     "Ok.\n", [Call("f", '{"a": [1]}', True)]),
    ("no keys", ToolFormat.GLM, "<tool_call>f\n</tool_call>\n<tool_call>f</tool_call>", "",
     [Call("f", "{}", True)] * 2),
    ("a fence", ToolFormat.DEEPSEEK_V3,
     ("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{}\n```<｜tool▁call▁end｜>\n"
     "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"), "",
     [Call("f", "{}", True)] * 2),
    ("no fence", ToolFormat.DEEPSEEK_V31,
     ("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{}"
     "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"), "", [Call("f", "{}", True)] * 2),
    ("lines", ToolFormat.LLAMA3_JSON, f"{P}\n{P}\n", "", [Call("f", "{}", True)] * 2),
    ("text after", ToolFormat.LLAMA3_JSON, f"{P}; and so on", "; and so on", [Call("f", "{}", True)]),
]  # fmt: skip
"""What it is, the format, the text, the content, the calls."""


@pytest.mark.parametrize(
    ("format", "text", "content", "calls"), [case[1:] for case in CALLS], ids=[c[0] for c in CALLS]
)
def test_what_models_really_write(format: ToolFormat, text: str, content: str, calls: list[Call]) -> None:
    assert reply(format, text) == Reply("", content, tuple(calls))


NO_CALLS: list[tuple[ToolFormat, str]] = [
    (ToolFormat.HERMES, F),
    (ToolFormat.HERMES, tag('{"name": "g", "arguments": {}}')),
    (ToolFormat.HERMES, tag('{"name": "f", "arguments": "x"}')),
    (ToolFormat.HERMES, tag('{"name": "f"}')),
    (ToolFormat.HERMES, " \n<tool_call>\n{"),
    (ToolFormat.HERMES, "\n "),
    (ToolFormat.LLAMA3_JSON, '<|python_tag|>print("hi")'),
    (ToolFormat.LLAMA3_JSON, '{"name": "Ada", "age": 36}'),
    (ToolFormat.LLAMA3_JSON, "See: " + P),
    (ToolFormat.MISTRAL, F),
    (ToolFormat.MISTRAL, "[TOOL_CALLS] [1, 2]"),
    (ToolFormat.MISTRAL, "[TOOL_CALLS]g[ARGS]{}"),
    (ToolFormat.MISTRAL, "[TOOL_CALLS]f["),
    (ToolFormat.PYTHONIC, "[f(x) is what I mean]"),
    (ToolFormat.PYTHONIC, "[1, 2]"),
    (ToolFormat.PYTHONIC, "[f(a=open('x'))]"),
    (ToolFormat.PYTHONIC, "See: [f()]"),
    (ToolFormat.QWEN3_CODER, "<tool_call>\n<function=g>\n</function>"),
    (ToolFormat.QWEN3_CODER, tag(F)),
    (ToolFormat.GLM, "<tool_call>g\n</tool_call>"),
    (ToolFormat.DEEPSEEK_V3, "<｜tool▁calls▁begin｜>, they write."),
]


@pytest.mark.parametrize(("format", "text"), NO_CALLS)
def test_what_is_no_call_is_content(format: ToolFormat, text: str) -> None:
    assert reply(format, text) == Reply("", text, ())


@FORMATS
def test_where_there_are_only_calls_a_cut_one_is_no_content(format: ToolFormat) -> None:
    text = written(format, [("f", "{}"), ("get_wind", "{}")])
    for end in range(len(text)):
        stream = ToolStream(SYNTAX[format], NAMES, only_calls=True)
        _, content, calls = reply_of(stream.push(text[:end]) + stream.finish())
        assert not content
        assert all(call.is_complete for call in calls[:-1])


@FORMATS
def test_long_answers_take_linear_time(format: ToolFormat) -> None:
    """Text that is held back and released again and again, and arguments of 200,000 characters."""
    marker = SYNTAX[format].marker
    long = json.dumps({"a": "x" * 200_000})
    texts = ["<" * 100_000, marker * 10_000, written(format, [("f", long)]), f'{marker}{{"arguments": {long}']
    for text in texts:
        started = time.process_time()
        events(format, [text])
        assert time.process_time() - started < 30, "the square of these lengths takes minutes"


def test_markers_begin_in_one_place_only() -> None:
    """What the search relies on: a marker that fails cannot hide the start of another one."""
    for syntax in SYNTAX.values():
        assert syntax.marker.count(syntax.marker[0]) == 1
