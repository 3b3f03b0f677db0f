"""What a chat prints. On a terminal answers lose what would command it: a model must not move cursors or ring bells.

Text is shown as it is written, Markdown included, so that it can be copied.
"""

from __future__ import annotations

import re

from rich.console import Console
from rich.text import Text

from rootstream.chat.answering import Show

_COMMANDING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """Without control characters, and without marks that turn the direction of writing."""
    return _COMMANDING.sub("", text).encode(errors="replace").decode()


class Screen(Show):
    """A person's terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._thinks = False
        self._is_new_line = True

    def text(self, piece: str) -> None:
        if self._thinks:
            self._thinks = False
            self._end_line()
            self._console.print()
        self._print(harmless(piece), "")

    def reasoning(self, piece: str) -> None:
        self._thinks = True
        self._print(harmless(piece), "dim italic")

    def note(self, text: str) -> None:
        self._end_line()
        self._print(f"[{text}]", "dim")
        self._end_line()

    def figures(self, text: str) -> None:
        """What an answer cost, under it."""
        self._thinks = False
        self._end_line()
        if text:
            self._print(text, "dim")
            self._end_line()

    def error(self, text: str) -> None:
        self._end_line()
        self._print(harmless(text), "red")
        self._end_line()

    def say(self, text: str) -> None:
        self._print(text, "")
        self._end_line()

    def _print(self, text: str, style: str) -> None:
        if text:
            self._console.print(Text(text, style=style), end="", soft_wrap=True)
            self._is_new_line = text.endswith("\n")

    def _end_line(self) -> None:
        if not self._is_new_line:
            self._console.print()
            self._is_new_line = True


class Plain(Show):
    """A pipe: the answer alone, as it came."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def text(self, piece: str) -> None:
        self._console.file.write(piece.encode(errors="replace").decode())
        self._console.file.flush()
