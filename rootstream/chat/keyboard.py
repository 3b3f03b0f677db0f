"""Questions from a terminal: lines with editing, history and completion where the platform has them."""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

from rootstream.chat.commands import completions

_QUOTES = '"""'
_END = "."


class Keyboard:
    """A person at a terminal. In ``multiline`` a question ends with a line of a single dot."""

    def __init__(self) -> None:
        self.multiline = False
        with contextlib.suppress(ImportError):
            readline: Any = importlib.import_module("readline")  # input() uses it once it is imported
            readline.set_completer_delims(" ")
            readline.set_completer(_complete)
            readline.parse_and_bind("tab: complete")

    def ask(self) -> str | None:
        """The next question or command; "" where it was given up by Ctrl-C, None for Ctrl-D."""
        try:
            return self._question()
        except EOFError:
            return None
        except KeyboardInterrupt:
            print()
            return ""

    def _question(self) -> str:
        print()
        first = input("> ")
        if first.startswith(_QUOTES):
            return self._rest([first.removeprefix(_QUOTES)], _QUOTES)
        if self.multiline and not first.startswith("/") and first != _END:
            return self._rest([first], _END)
        return first

    def _rest(self, lines: list[str], end: str) -> str:
        """Further lines up to the one that ends them all."""
        if end == _QUOTES and lines[0].endswith(end):
            return lines[0].removesuffix(end)
        while True:
            line = input(". ")
            if line == end:
                break
            if end == _QUOTES and line.endswith(end):
                lines.append(line.removesuffix(end))
                break
            lines.append(line)
        return "\n".join(lines).strip("\n")


def _complete(text: str, state: int) -> str | None:
    found = completions(text) if text.startswith("/") else []
    return found[state] if state < len(found) else None
