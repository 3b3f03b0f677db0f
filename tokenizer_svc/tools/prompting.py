"""How a conversation with tools becomes the model's prompt: by its chat template, or by words of ours.

A template that does not look at ``tools`` would drop them without a word, and results with them: such a
conversation is put into plain turns first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from shared.chat_template import ChatTemplate, ChatTemplateError
from tokenizer_svc.engine import Engine
from tokenizer_svc.tools.formats import SYNTAX, Shape
from tokenizer_svc.tools.toolbox import Toolbox
from tokenizer_svc.tools.turns import Turn, have_tools, name_results, plain_turns, shorten_ids, with_text_arguments

_LOOKS_FOR_NONE = re.compile(r"""content['"\]]*\s+is\s+(?:not\s+)?none""", re.IGNORECASE)


def render(engine: Engine, turns: Sequence[Turn], toolbox: Toolbox | None, /, **variables: Any) -> str:
    """The prompt text. Raises ChatTemplateError and LookupError, as Tokenizer.render_chat does."""
    tokenizer = engine.tokenizer
    if toolbox is None and not have_tools(turns):
        return tokenizer.render_chat(turns, **variables)
    template = tokenizer.tool_template
    if template is not None and template.knows_tools:
        name_results(turns)
        if SYNTAX[engine.tool_format].shape is Shape.MISTRAL:
            shorten_ids(turns)
        tools = None if toolbox is None else [tool.template_form for tool in toolbox.tools]
        return _first(template, _spellings(template, turns), tools=tools, **variables)
    plain = plain_turns(turns, toolbox, engine.tool_format)
    try:
        return tokenizer.render_chat(plain, **variables)
    except ChatTemplateError:
        if toolbox is None or turns[0]["role"] == "system":
            raise
        # the system message is ours, and some templates refuse any
        plain = plain_turns(turns, toolbox, engine.tool_format, has_system=False)
        return tokenizer.render_chat(plain, **variables)


def _spellings(template: ChatTemplate, turns: Sequence[Turn]) -> Iterator[Sequence[Turn]]:
    """The same conversation as templates may want it.

    Most want the arguments of calls as objects, some (DeepSeek's) join them to text. A call without content has none
    for those that look for it, and an empty text for those that do not.
    """
    if _LOOKS_FOR_NONE.search(template.source):
        turns = [{**turn, "content": None} if "tool_calls" in turn and not turn["content"] else turn for turn in turns]
    yield turns
    if any("tool_calls" in turn for turn in turns):
        yield with_text_arguments(turns)


def _first(template: ChatTemplate, spellings: Iterator[Sequence[Turn]], **variables: Any) -> str:
    """What the template makes of the first spelling that it does not refuse. Raises the first ChatTemplateError."""
    refusal: ChatTemplateError | None = None
    for turns in spellings:
        try:
            return template.render(turns, **variables)
        except ChatTemplateError as error:
            refusal = refusal or error
    assert refusal is not None
    raise refusal
