"""The commands of a chat: what one may type after a slash, as values. Pure."""

from __future__ import annotations

import difflib
from typing import NamedTuple

from shared.errors import UserError


class Command(NamedTuple):
    """A command that was typed."""

    name: str
    argument: str


class _Known(NamedTuple):
    form: str
    help: str


KNOWN = {
    "help": _Known("/help", "this list"),
    "clear": _Known("/clear", "forget what was said; the system prompt stays"),
    "system": _Known("/system [TEXT|off]", "show or change the system prompt"),
    "history": _Known("/history", "show what was said"),
    "undo": _Known("/undo", "take back the last question and its answer"),
    "retry": _Known("/retry", "ask the last question again"),
    "save": _Known("/save FILE", "write the conversation as JSON"),
    "load": _Known("/load FILE", "go on with one that was saved"),
    "model": _Known("/model [NAME]", "show the server's models, or talk to another one"),
    "set": _Known("/set [FIELD VALUE]", "show or change how answers are drawn, such as /set temperature 0.7"),
    "unset": _Known("/unset FIELD", "leave a field to the server again"),
    "tokens": _Known("/tokens", "what the conversation has cost so far"),
    "multiline": _Known("/multiline", 'questions of several lines, each ended by a line with only "."; again: back'),
    "quit": _Known("/quit", "leave, like Ctrl-D"),
}
_ALIASES = {
    "exit": "quit",
    "bye": "quit",
    "q": "quit",
    "?": "help",
    "h": "help",
    "reset": "clear",
    "regenerate": "retry",
}


def parse(line: str) -> Command | str:
    """A command, or the question that a line is: `//` begins one with a slash. Raises UserError for an unknown one."""
    if line.startswith("//"):
        return line[1:]
    if not line.startswith("/"):
        return line
    name, _, argument = line[1:].strip().partition(" ")
    name = _ALIASES.get(name.lower(), name.lower())
    if name not in KNOWN:
        near = difflib.get_close_matches(name, KNOWN, n=1)
        hint = f"did you mean /{near[0]}?" if near else "/help lists all"
        raise UserError(f"there is no /{name}: {hint} To begin a question with a slash, write //")
    return Command(name, argument.strip())


def help_text() -> str:
    width = max(len(known.form) for known in KNOWN.values())
    lines = [f"  {known.form:<{width}}  {known.help}" for known in KNOWN.values()]
    return "\n".join([*lines, '  """ begins and ends a question of several lines; Ctrl-C stops an answer'])


def completions(text: str) -> list[str]:
    """The commands that begin so."""
    return [f"/{name}" for name in KNOWN if f"/{name}".startswith(text)]
