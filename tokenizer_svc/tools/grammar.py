"""What the tools of a request ask of the answer's grammar."""

from __future__ import annotations

import msgspec

from tokenizer_svc.api_error import invalid
from tokenizer_svc.grammar.spec import GrammarSpec, Kind
from tokenizer_svc.grammar.tools_spec import ToolSpec, ToolsSpec
from tokenizer_svc.structure import Structure, StructureFields, read_structure
from tokenizer_svc.tools.formats import ToolFormat, bound
from tokenizer_svc.tools.toolbox import Toolbox


def format_of(format: ToolFormat, toolbox: Toolbox) -> ToolFormat:
    """How calls are written in the answer to a request, where ``format`` is how the model writes them by itself."""
    return bound(format) if toolbox.needs_grammar else format


def read_structure_with(
    toolbox: Toolbox | None, fields: StructureFields, format: ToolFormat, prefix: str = ""
) -> Structure | None:
    """The one grammar that a request with tools asks for, None where the answer is free. Raises ApiError 400.

    ``prefix``: where the fields are in the request.
    """
    if toolbox is None:
        return read_structure(fields, prefix)
    structure = read_structure(
        fields, prefix, tools=_spec(toolbox, format_of(format, toolbox)) if toolbox.needs_grammar else None
    )
    if structure is not None and structure.spec.kind is not Kind.TOOLS and not structure.leaves_form:
        message = (
            f"{structure.param} says what the answer must look like, and tools leave the model free to call them "
            'instead: leave one of them out, or set tool_choice to "none"'
        )
        raise invalid(message, "tools")
    return structure


def _spec(toolbox: Toolbox, format: ToolFormat) -> GrammarSpec:
    """Only the functions that may be called; descriptions make no difference."""
    tools = tuple(ToolSpec(tool.name, tool.parameters) for tool in toolbox.callable_tools)
    spec = ToolsSpec(format, tools, toolbox.is_required, toolbox.is_parallel)
    return GrammarSpec(Kind.TOOLS, msgspec.json.encode(spec).decode())
