"""Chat templates: messages to prompt text, in the sandbox and with the names that templates expect.

The environment is that of transformers' ``apply_chat_template``, without importing it. Knows nothing of
HTTP or tokens.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
from jinja2.parser import Parser

from shared.template_budget import TooMuch
from shared.template_sandbox import BoundedEnvironment, budgeted, check_percent

_TEMPLATE_FAULTS = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)
_MOST_SOURCE = 2**20  # characters
_MOST_REASON = 500  # characters of a template's own message


class ChatTemplateError(ValueError):
    """The model's chat template refuses these messages; the message is the template's own."""


class ChatTemplate:
    """One compiled template.

    ``variables``: the names that it looks at. ``literals``: the texts that it knows, such as names of roles.
    ``knows_tools``: whether it tells the model of tools that it is given.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        """``special_tokens``: names such as bos_token and their text. Raises jinja2.TemplateError."""
        if len(source) > _MOST_SOURCE:
            raise jinja2.TemplateError(f"it has {len(source)} characters, at most {_MOST_SOURCE} are read")
        environment = _environment()
        with _compiling():
            parsed = environment.parse(source)
            self._template = environment.from_string(source)
        self.source = source
        self.variables = frozenset(name.name for name in parsed.find_all(jinja2.nodes.Name) if name.ctx == "load")
        constants: list[Any] = [constant.value for constant in parsed.find_all(jinja2.nodes.Const)]
        self.literals = frozenset(value for value in constants if isinstance(value, str))
        self.knows_tools = "tools" in self.variables
        self._special_tokens = dict(special_tokens)

    def render(
        self, messages: Sequence[Mapping[str, Any]], /, *, add_generation_prompt: bool = True, **variables: Any
    ) -> str:
        """The prompt for ``messages``. Raises ChatTemplateError, also where it would take too long or too much."""
        names = {**self._special_tokens, "tools": None, "documents": None, **variables}
        names |= {"messages": messages, "add_generation_prompt": add_generation_prompt}
        try:
            with budgeted(names):
                return self._template.render(names)
        except TooMuch as error:
            raise ChatTemplateError(f"the template was stopped: {error}") from error
        except _TEMPLATE_FAULTS as error:
            raise ChatTemplateError((str(error) or type(error).__name__)[:_MOST_REASON]) from error


@contextmanager
def _compiling() -> Generator[None]:
    """Whatever a template's source may do to the compiler becomes jinja2.TemplateError."""
    try:
        with budgeted(None):
            yield
    except (RecursionError, MemoryError, SyntaxError, ValueError) as error:
        raise jinja2.TemplateError(f"{type(error).__name__}: {error}"[:_MOST_REASON]) from error


class _Generation(jinja2.ext.Extension):
    """``{% generation %}`` marks what an assistant said, for training: here its body and nothing else."""

    tags = {"generation"}  # noqa: RUF012 (jinja's own interface)

    def parse(self, parser: Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> BoundedEnvironment:
    environment = BoundedEnvironment(
        filters={"tojson": _tojson},
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_Generation, jinja2.ext.loopcontrols],
    )
    names: dict[str, Any] = {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
    environment.globals.update(names)
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(format: str) -> str:
    check_percent(format)
    return dt.datetime.now().strftime(format)  # noqa: DTZ005 (templates want the local date)
