"""How a conversation with tools becomes the model's prompt: by its chat template, or by words of ours.

A template that does not look at ``tools`` would drop them without a word, and results with them: such a
conversation is put into plain turns first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.chat_template import ChatTemplateError
from tokenizer_svc.engine import Engine
from tokenizer_svc.tools.toolbox import Toolbox
from tokenizer_svc.tools.turns import Turn, have_tools, name_results, plain_turns


def render(engine: Engine, turns: Sequence[Turn], toolbox: Toolbox | None, /, **variables: Any) -> str:
    """The prompt text. Raises ChatTemplateError and LookupError, as Tokenizer.render_chat does."""
    tokenizer = engine.tokenizer
    if toolbox is None and not have_tools(turns):
        return tokenizer.render_chat(turns, **variables)
    template = tokenizer.tool_template
    if template is not None and template.knows_tools:
        name_results(turns)
        tools = None if toolbox is None else [tool.template_form for tool in toolbox.tools]
        return template.render(turns, tools=tools, **variables)
    plain = plain_turns(turns, toolbox, engine.tool_format)
    try:
        return tokenizer.render_chat(plain, **variables)
    except ChatTemplateError:
        if toolbox is None or turns[0]["role"] == "system":
            raise
        # the system message is ours, and some templates refuse any
        plain = plain_turns(turns, toolbox, engine.tool_format, has_system=False)
        return tokenizer.render_chat(plain, **variables)
