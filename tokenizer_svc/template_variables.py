"""What a chat template is told besides the messages: a client's own variables, and fields that stand for some.

Sources: OpenAI's API reference for ``reasoning_effort`` and ``verbosity``; the templates of Qwen 3, GLM 4.5 and
DeepSeek V3.1 for the names of the switch that turns thinking off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from shared.tokenizer import Tokenizer
from tokenizer_svc.api_error import invalid, unsupported

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_THOUGHTLESS = ("none", "minimal")
SWITCHES = ("enable_thinking", "thinking")
VERBOSITIES = ("low", "medium", "high")
_USUAL_VERBOSITY = "medium"


class VariableFields(Protocol):
    """The fields of a request that templates see."""

    @property
    def chat_template_kwargs(self) -> Mapping[str, Any] | None: ...

    @property
    def documents(self) -> Sequence[Mapping[str, Any]] | None: ...

    @property
    def reasoning_effort(self) -> str | float | None: ...

    @property
    def verbosity(self) -> str | None: ...


def variables_of(fields: VariableFields, tokenizer: Tokenizer) -> dict[str, Any]:
    """All variables by name; what a client sets in ``chat_template_kwargs`` counts most. Raises ApiError 400."""
    known = tokenizer.template_variables
    found: dict[str, Any] = {}
    if (effort := fields.reasoning_effort) is not None:
        found |= _effort(effort, known)
    if fields.documents:
        if "documents" not in known:
            raise unsupported("documents", "this model's chat template knows none: put them into a message")
        found["documents"] = fields.documents
    if fields.verbosity is not None:
        found |= _verbosity(fields.verbosity, known)
    return found | dict(fields.chat_template_kwargs or {})


def _effort(effort: str | float, known: frozenset[str]) -> dict[str, Any]:
    """The variable, and the switch where the template has one."""
    is_level = effort in EFFORTS if isinstance(effort, str) else 0 <= effort < 1
    if not is_level:
        raise invalid(f"reasoning_effort must be {_options(EFFORTS)}, not {effort!r:.50}", "reasoning_effort")
    thinks = effort not in _THOUGHTLESS
    return {"reasoning_effort": effort, **{switch: thinks for switch in SWITCHES if switch in known}}


def _verbosity(verbosity: str, known: frozenset[str]) -> dict[str, Any]:
    if verbosity not in VERBOSITIES:
        raise invalid(f"verbosity must be {_options(VERBOSITIES)}, not {verbosity!r:.50}", "verbosity")
    if "verbosity" not in known and verbosity != _USUAL_VERBOSITY:
        raise unsupported("verbosity", "this model's chat template knows none: say it in a message")
    return {"verbosity": verbosity} if "verbosity" in known else {}


def _options(names: Sequence[str]) -> str:
    *others, last = (f'"{name}"' for name in names)
    return f"{', '.join(others)} or {last}"
