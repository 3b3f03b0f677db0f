"""A call whose name stands before its arguments, with marks between them: Mistral's and DeepSeek's."""

from __future__ import annotations

import re

from tokenizer_svc.tools.call_body import Functions, Step, Writing
from tokenizer_svc.tools.formats import SPACE
from tokenizer_svc.tools.json_scan import JsonScan

_MISTRAL_HEAD = re.compile(r"\s*([\w-]+)\s*(?:\[CALL_ID\]\s*[\w-]+\s*)?(?:\[ARGS\]\s*)?")
_DEEPSEEK_HEAD = re.compile(
    r"\s*(?:<｜tool▁call▁begin｜>\s*)?(?:function\s*<｜tool▁sep｜>\s*)?([\w-]+)\s*(?:<｜tool▁sep｜>\s*)?(?:```json\s*)?"
)
_DEEPSEEK_END = "<｜tool▁call▁end｜>"
_LONGEST_HEAD = 256  # a name of 64 characters, an id, and every mark


class NamedCall:
    """A CallBody: a head, an object, and perhaps a mark at the end."""

    def __init__(self, functions: Functions, head: re.Pattern[str], end: str) -> None:
        self.name: str | None = None
        self._functions = functions
        self._head_pattern = head
        self._end = end
        self._head = ""
        self._tail = ""
        self._scan = JsonScan()
        self._writing = Writing()

    @property
    def has_arguments(self) -> bool:
        return self._scan.is_over

    def written(self) -> str:
        return self._writing.take()

    def feed(self, char: str) -> Step:
        if self._scan.is_over:
            return self._after(char)
        if self.name is None:
            if char != "{":
                self._head += char
                return Step.TAKEN if len(self._head) <= _LONGEST_HEAD else Step.REFUSED
            found = self._head_pattern.fullmatch(self._head)
            if found is None or found[1] not in self._functions:
                return Step.REFUSED
            self.name = found[1]
        if not self._scan.feed(char):
            return Step.REFUSED
        self._writing.add(char)
        return Step.LAST if self._scan.is_over and not self._end else Step.TAKEN

    def _after(self, char: str) -> Step:
        """A fence of code, and the mark."""
        if self._tail or char not in SPACE + "`":
            self._tail += char
        if self._tail == self._end:
            return Step.END
        return Step.TAKEN if self._end.startswith(self._tail) else Step.REFUSED


def mistral_call(functions: Functions) -> NamedCall:
    """``name[ARGS]{…}``, perhaps with an id before the arguments, or without marks where those are not shown."""
    return NamedCall(functions, _MISTRAL_HEAD, "")


def deepseek_call(functions: Functions) -> NamedCall:
    """Both of DeepSeek's shapes, with ``function`` and a fence of code, and without."""
    return NamedCall(functions, _DEEPSEEK_HEAD, _DEEPSEEK_END)
