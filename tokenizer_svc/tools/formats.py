"""The ways in which models write a call of a tool.

Hermes is how Nous Research's Hermes and Qwen 2.5 and 3 were trained; llama3-json is Meta's JSON based calling of
Llama 3.1 and 3.2 (its prompt format pages). Knows nothing of requests.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from shared.chat_template import ChatTemplate


class ToolFormat(enum.StrEnum):
    """Named as in ``--tool-format``."""

    HERMES = "hermes"
    LLAMA3_JSON = "llama3-json"


SPACE = " \t\n\r\v\f"
"""What counts as blank between a marker, an object and a closer."""


class Syntax(NamedTuple):
    """How calls stand in a text: the object of each between ``opener`` and ``closer``, ``joiner`` between two."""

    opener: str
    closer: str
    joiner: str
    arguments: str  # the key of the arguments, beside "name"
    marker: str  # announces a call wherever it stands
    is_bare: bool  # whether an object at the start of the text, or after another call, is a call without a marker


SYNTAX = {
    ToolFormat.HERMES: Syntax(
        opener="<tool_call>\n",
        closer="\n</tool_call>",
        joiner="\n",
        arguments="arguments",
        marker="<tool_call>",
        is_bare=False,
    ),
    ToolFormat.LLAMA3_JSON: Syntax(
        opener="", closer="", joiner="; ", arguments="parameters", marker="<|python_tag|>", is_bare=True
    ),
}


def choose(setting: str, template: ChatTemplate | None) -> ToolFormat:
    """The format set, or for "auto" the one that the template teaches; Hermes where it teaches none."""
    if setting != "auto":
        return ToolFormat(setting)
    text = "" if template is None else template.source
    if "<tool_call>" not in text and ("<|python_tag|>" in text or "ipython" in text):
        return ToolFormat.LLAMA3_JSON
    return ToolFormat.HERMES
