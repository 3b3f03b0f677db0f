"""Turns of a conversation that are about tools: calls that the model made, and what came of them.

Two forms: for chat templates that know tools, and plain turns for those that do not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tokenizer_svc.api_error import invalid, unsupported
from tokenizer_svc.limits import Limits
from tokenizer_svc.tools.formats import SYNTAX, Syntax, ToolFormat
from tokenizer_svc.tools.toolbox import Toolbox, convert

_SHORT = 9
_SHORT_ID = re.compile(r"[a-zA-Z0-9]{9}")

Turn = dict[str, Any]
"""A message as templates know it: role and content, and what belongs to the role."""


class _Function(msgspec.Struct):
    name: str
    arguments: str


class _Call(msgspec.Struct):
    id: str
    function: _Function | None = None
    type: str = "function"


def read_calls(items: Any, path: str, limits: Limits) -> list[dict[str, Any]]:
    """The ``tool_calls`` of a message as templates want them: with arguments that are objects.

    Arguments that are no JSON object stay the text that the model wrote. Raises ApiError 400.
    """
    calls = convert(items, list[Any], path)
    if len(calls) > limits.max_tool_calls:
        raise invalid(f"{path} has {len(calls)} calls, at most {limits.max_tool_calls} are allowed", path)
    return [_call(item, f"{path}[{index}]") for index, item in enumerate(calls)]


def _call(item: Any, path: str) -> dict[str, Any]:
    call = convert(item, _Call, path)
    if call.type != "function":
        raise unsupported(f"{path}.type", f"{call.type!r} is no function, and only functions are served")
    if call.function is None:
        raise invalid(f"{path}.function is missing", f"{path}.function", "missing_field")
    function = {"name": call.function.name, "arguments": _arguments(call.function.arguments)}
    return {"id": call.id, "type": "function", "function": function}


def _arguments(text: str) -> dict[str, Any] | str:
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text


def name_results(turns: Sequence[Turn]) -> None:
    """Give results the name of the function that was called, which some templates want, where a client left it out."""
    names: dict[str, str] = {}
    for turn in turns:
        names |= {call["id"]: call["function"]["name"] for call in turn.get("tool_calls", ())}
        if turn["role"] == "tool" and "name" not in turn and turn.get("tool_call_id") in names:
            turn["name"] = names[turn["tool_call_id"]]


def shorten_ids(turns: Sequence[Turn]) -> None:
    """Give calls and results ids of nine letters and digits, the only ones that Mistral's templates take.

    The same id becomes the same one everywhere; one that is such already stays.
    """
    for turn in turns:
        for call in turn.get("tool_calls", ()):
            call["id"] = _short_id(call["id"])
        if "tool_call_id" in turn:
            turn["tool_call_id"] = _short_id(turn["tool_call_id"])


def _short_id(id: str) -> str:
    return id if _SHORT_ID.fullmatch(id) else hashlib.sha256(id.encode()).hexdigest()[:_SHORT]


def with_text_arguments(turns: Sequence[Turn]) -> list[Turn]:
    """The same turns, the arguments of their calls as JSON text."""
    return [
        {**turn, "tool_calls": [_with_text(call) for call in turn["tool_calls"]]} if "tool_calls" in turn else turn
        for turn in turns
    ]


def _with_text(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = function["arguments"]
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {**call, "function": {**function, "arguments": text}}


def have_tools(turns: Sequence[Turn]) -> bool:
    """Whether any turn is about tools."""
    return any(turn["role"] == "tool" or "tool_calls" in turn for turn in turns)


def plain_turns(
    turns: Sequence[Turn], toolbox: Toolbox | None, format: ToolFormat, *, has_system: bool = True
) -> list[Turn]:
    """The conversation in plain turns, with the tools and how to call them in words.

    The words end the system message, or the first one of the user where the template refuses others
    (``has_system`` is false). Results become turns of the user: those of one turn of calls a single one.
    """
    syntax = SYNTAX[format]
    plain: list[Turn] = []
    for turn in turns:
        if turn["role"] == "tool":
            text = f"<tool_response>\n{turn['content']}\n</tool_response>"
            if plain and plain[-1].get("is_result"):
                plain[-1]["content"] += f"\n{text}"
            else:
                plain.append({"role": "user", "content": text, "is_result": True})
        elif "tool_calls" in turn:
            calls = syntax.joiner.join(_written(call, syntax) for call in turn["tool_calls"])
            parts = [turn["content"], f"{syntax.begin}{calls}{syntax.end}"]
            plain.append({"role": "assistant", "content": "\n".join(filter(None, parts))})
        else:
            plain.append(dict(turn))
    for turn in plain:
        turn.pop("is_result", None)
    if toolbox is not None:
        _add(plain, instructions(toolbox, format), "system" if has_system else "user")
    return plain


def _add(turns: list[Turn], text: str, role: str) -> None:
    """Say something at the beginning: in the first turn if it has the role, else before it."""
    if turns[0]["role"] != role:
        turns.insert(0, {"role": role, "content": text})
        return
    said = turns[0]["content"]
    order = (said, text) if role == "system" else (text, said)
    turns[0]["content"] = "\n\n".join(filter(None, order))


def _written(call: Mapping[str, Any], syntax: Syntax) -> str:
    """A call as the model writes it."""
    arguments = call["function"]["arguments"]
    body = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    before, after = syntax.frame(call["function"]["name"])
    return f"{before}{body}{after}"


def instructions(toolbox: Toolbox, format: ToolFormat) -> str:
    """What a model is told of its tools by us: the pattern of the Hermes function calling prompt, in our words."""
    syntax = SYNTAX[format]
    tools = "\n".join(json.dumps(tool.template_form, ensure_ascii=False) for tool in toolbox.tools)
    before, after = syntax.frame("<name of the function>")
    shape = f"{syntax.begin}{before}{{<its arguments>}}{after}{syntax.end}"
    several = "Several calls may follow one another." if toolbox.is_parallel else "Make one call at a time."
    plainly = "in the form that you are asked for" if toolbox.has_form else "in plain text"
    must = "Answer with a call." if toolbox.is_required else f"If no function is needed, answer {plainly}."
    return (
        "You can call functions. These are described by JSON Schemas, one per line:\n"
        f"<tools>\n{tools}\n</tools>\n\n"
        f"To call a function, write nothing but\n{shape}\n"
        f"{several} Results come back between <tool_response> and </tool_response>. {must}"
    )
