"""What the tools of a request ask of the answer's grammar, alone and beside what its other fields ask for."""

from __future__ import annotations

from functools import partial

import msgspec

from tokenizer_svc.api_error import invalid
from tokenizer_svc.grammar.spec import GrammarSpec, Kind
from tokenizer_svc.grammar.tools_spec import EitherSpec, ToolSpec, ToolsSpec, openings
from tokenizer_svc.structure import Structure, StructureFields, Wish, asks_for_form, read_structure
from tokenizer_svc.tools.formats import SYNTAX, ToolFormat, bound
from tokenizer_svc.tools.stream import CallsOrText, ToolStream
from tokenizer_svc.tools.toolbox import Toolbox


def format_of(format: ToolFormat, toolbox: Toolbox) -> ToolFormat:
    """How calls are written in the answer to a request, where ``format`` is how the model writes them by itself."""
    return bound(format) if toolbox.needs_grammar else format


def beside_form(toolbox: Toolbox | None, fields: StructureFields, prefix: str = "") -> Toolbox | None:
    """The tools of a request whose other fields may bind an answer that is no call. Raises ApiError 400."""
    if toolbox is None or toolbox.is_required or not asks_for_form(fields, prefix):
        return toolbox
    return toolbox._replace(has_form=True)


def stream_of(format: ToolFormat, toolbox: Toolbox) -> ToolStream | CallsOrText:
    """A reader of one answer, where ``format`` is how the model writes calls by itself."""
    format = format_of(format, toolbox)
    calls = ToolStream(SYNTAX[format], toolbox.functions, only_calls=toolbox.is_required)
    return CallsOrText(calls, openings(format, toolbox.allowed)) if toolbox.has_form else calls


def read_structure_with(
    toolbox: Toolbox | None, fields: StructureFields, format: ToolFormat, prefix: str = ""
) -> Structure | None:
    """The one grammar that a request with tools asks for, None where the answer is free. Raises ApiError 400.

    ``prefix``: where the fields are in the request.
    """
    if toolbox is None:
        return read_structure(fields, prefix)
    return read_structure(fields, prefix, beside=partial(_beside, toolbox, format_of(format, toolbox)))


def _beside(toolbox: Toolbox, format: ToolFormat, wish: Wish | None) -> Wish | None:
    """What the answer must look like: calls, or what the other fields wish, or either."""
    if wish is not None and wish.spec.leaves_form:
        if toolbox.needs_grammar:
            what = "both bind the answer token by token, and only one grammar can: send one of them"
            raise invalid(f"{wish.param} and tools that need a grammar: {what}", "tools")
        return wish
    calls = _calls(toolbox, format)
    if wish is None or toolbox.is_required:  # an answer of nothing but calls has no text that could have a form
        return Wish("tools", GrammarSpec(Kind.TOOLS, _json(calls))) if toolbox.needs_grammar else None
    either = EitherSpec(msgspec.structs.replace(calls, required=True), wish.spec.kind, wish.spec.text)
    return Wish(wish.param, GrammarSpec(Kind.EITHER, _json(either)))


def _calls(toolbox: Toolbox, format: ToolFormat) -> ToolsSpec:
    """Only the functions that may be called; descriptions make no difference."""
    tools = tuple(ToolSpec(tool.name, tool.parameters) for tool in toolbox.callable_tools)
    return ToolsSpec(format, tools, toolbox.is_required, toolbox.is_parallel)


def _json(spec: ToolsSpec | EitherSpec) -> str:
    return msgspec.json.encode(spec).decode()
