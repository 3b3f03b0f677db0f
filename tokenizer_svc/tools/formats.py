"""The ways in which models write a call of a tool.

Sources: hermes is how Nous Research's Hermes and Qwen 2.5 and 3 were trained; llama3-json Meta's JSON based calling of
Llama 3.1 to 4 (its prompt format pages), pythonic its other one, and Liquid's LFM2; mistral and mistral-args the shapes
of Mistral's tokenizers up to v7 and from v11 on (mistral-common); qwen3-coder, glm, deepseek-v3 and deepseek-v3.1 the
chat templates of Qwen 3 Coder, GLM 4.5, DeepSeek V3 and R1, and DeepSeek V3.1. Knows nothing of requests.
"""

from __future__ import annotations

import enum
import json
import re
from typing import NamedTuple

from shared.chat_template import ChatTemplate


class ToolFormat(enum.StrEnum):
    """Named as in ``--tool-format``."""

    HERMES = "hermes"
    LLAMA3_JSON = "llama3-json"
    MISTRAL = "mistral"
    MISTRAL_ARGS = "mistral-args"
    PYTHONIC = "pythonic"
    QWEN3_CODER = "qwen3-coder"
    GLM = "glm"
    DEEPSEEK_V3 = "deepseek-v3"
    DEEPSEEK_V31 = "deepseek-v3.1"


SPACE = " \t\n\r\v\f"
"""What counts as blank beside marks and calls."""


class Shape(enum.Enum):
    """What one call looks like between its marks."""

    OBJECT = enum.auto()  # {"name": …, "arguments": {…}}
    NAMED = enum.auto()  # a name, marks, and the object of the arguments
    MISTRAL = enum.auto()  # either of these, the former in a list
    PYTHON = enum.auto()  # f(a=1, b="x"), in a list
    FUNCTION_TAG = enum.auto()  # <function=f><parameter=a>1</parameter></function>
    KEY_TAGS = enum.auto()  # f<arg_key>a</arg_key><arg_value>1</arg_value>


class Frame(NamedTuple):
    """The text around the arguments of one call."""

    before: str
    after: str


class Syntax(NamedTuple):
    """How calls stand in a text."""

    # How they are read.
    shape: Shape
    markers: tuple[str, ...]  # each announces a call wherever it stands; all begin alike, with a character of its own
    tails: tuple[str, ...] = ()  # may follow a call, and end a run of them
    again: str = ""  # announces another call after one
    separators: str = ""  # characters that may stand between two calls
    bare: str = ""  # characters with which a call may begin without a marker: at the start, or after another call
    inner: tuple[str, ...] = ()  # marks inside of calls
    # How they are written: by us, and where a grammar binds the model.
    begin: str = ""  # before the first call
    opener: str = ""  # before each
    arguments: str = ""  # the key of the arguments beside "name" in an object; empty: name, ``middle``, arguments
    middle: str = ""
    closer: str = ""  # after each
    joiner: str = ""  # between two
    end: str = ""  # after the last

    @property
    def marker(self) -> str:
        return self.markers[0]

    @property
    def marks(self) -> tuple[str, ...]:
        """All that must be seen of a text to read calls in it."""
        return (*self.markers, *self.tails, self.again, *self.inner)

    def frame(self, name: str, comma: str = ", ", colon: str = ": ") -> Frame:
        """The text around the arguments of a call of ``name``."""
        if not self.arguments:
            return Frame(f"{self.opener}{name}{self.middle}", self.closer)
        fields = f'"name"{colon}{json.dumps(name)}{comma}"{self.arguments}"{colon}'
        return Frame(f"{self.opener}{{{fields}", f"}}{self.closer}")


_LLAMA3_JSON = Syntax(
    Shape.OBJECT,
    markers=("<|python_tag|>", "<|python_start|>"),
    tails=("<|python_end|>",),
    separators=";,",
    bare="{",
    arguments="parameters",
    joiner="; ",
)
_MISTRAL = Syntax(
    Shape.MISTRAL,
    markers=("[TOOL_CALLS]",),
    tails=("]",),
    separators=",",
    inner=("[CALL_ID]", "[ARGS]"),
    begin="[TOOL_CALLS][",
    arguments="arguments",
    joiner=", ",
    end="]",
)
_DEEPSEEK_V3 = Syntax(
    Shape.NAMED,
    markers=("<｜tool▁calls▁begin｜>",),
    tails=("<｜tool▁calls▁end｜>",),
    again="<｜tool▁call▁begin｜>",
    inner=("<｜tool▁sep｜>", "<｜tool▁call▁end｜>"),
    begin="<｜tool▁calls▁begin｜>",
    opener="<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
    middle="\n```json\n",
    closer="\n```<｜tool▁call▁end｜>",
    joiner="\n",
    end="<｜tool▁calls▁end｜>",
)

SYNTAX = {
    ToolFormat.HERMES: Syntax(
        Shape.OBJECT,
        markers=("<tool_call>",),
        tails=("</tool_call>",),
        opener="<tool_call>\n",
        arguments="arguments",
        closer="\n</tool_call>",
        joiner="\n",
    ),
    ToolFormat.LLAMA3_JSON: _LLAMA3_JSON,
    ToolFormat.MISTRAL: _MISTRAL,
    ToolFormat.MISTRAL_ARGS: _MISTRAL._replace(
        begin="", opener="[TOOL_CALLS]", arguments="", middle="[ARGS]", joiner="", end=""
    ),
    ToolFormat.PYTHONIC: Syntax(
        Shape.PYTHON,
        markers=("<|python_start|>", "<|tool_call_start|>"),
        tails=("]", "<|python_end|>", "<|tool_call_end|>"),
        separators=",",
        bare="[",
    ),
    ToolFormat.QWEN3_CODER: Syntax(Shape.FUNCTION_TAG, markers=("<tool_call>",), tails=("</tool_call>",)),
    ToolFormat.GLM: Syntax(Shape.KEY_TAGS, markers=("<tool_call>",), inner=("</tool_call>",)),
    ToolFormat.DEEPSEEK_V3: _DEEPSEEK_V3,
    ToolFormat.DEEPSEEK_V31: _DEEPSEEK_V3._replace(
        opener="<｜tool▁call▁begin｜>", middle="<｜tool▁sep｜>", closer="<｜tool▁call▁end｜>", joiner=""
    ),
}

_BOUND = {
    ToolFormat.PYTHONIC: ToolFormat.LLAMA3_JSON,
    ToolFormat.QWEN3_CODER: ToolFormat.HERMES,
    ToolFormat.GLM: ToolFormat.HERMES,
}


def bound(format: ToolFormat) -> ToolFormat:
    """The format in which a model writes that a grammar binds: one whose arguments are the JSON that their schemas
    speak of.
    """
    return _BOUND.get(format, format)


_PYTHONIC = re.compile(r"func_?name\d*\(|<\|tool_call_start\|>|<\|tool_list_start\|>")


def choose(setting: str, template: ChatTemplate | None) -> ToolFormat:
    """The format set, or for "auto" the one that the template teaches; Hermes where it teaches none.

    Where a template knows no tools, our own words teach the format, which are those of the bound one.
    """
    source = "" if template is None else template.source
    format = _taught(source) if setting == "auto" else ToolFormat(setting)
    return format if template is not None and template.knows_tools else bound(format)


def _taught(source: str) -> ToolFormat:
    """By the marks in a template, the most telling first."""
    if "<arg_key>" in source:
        return ToolFormat.GLM
    if "<function=" in source and "<parameter=" in source:
        return ToolFormat.QWEN3_CODER
    if "<｜tool▁call" in source:
        return ToolFormat.DEEPSEEK_V3 if "```json" in source else ToolFormat.DEEPSEEK_V31
    if "[TOOL_CALLS]" in source:
        return ToolFormat.MISTRAL_ARGS if "[ARGS]" in source else ToolFormat.MISTRAL
    if "<tool_call>" in source:
        return ToolFormat.HERMES
    if _PYTHONIC.search(source):
        return ToolFormat.PYTHONIC
    if "<|python_tag|>" in source or "ipython" in source:
        return ToolFormat.LLAMA3_JSON
    return ToolFormat.HERMES
