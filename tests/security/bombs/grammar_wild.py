"""Grammars that recurse to the left, explode, loop, or are none at all."""

from __future__ import annotations

from tests.security.bomb import SAY, TEXT, bounded

GRAMMARS = (
    'start: start start | start | "a"',
    "start: a\na: b\nb: a",
    'start: ""*',
    'start: ("a"~1..100000)~1..100000',
    "start: undefined",
    "?",
    "start: /" + "(a?)" * 2000 + "a" * 2000 + "/",
    "start: " + "(" * 3000 + '"a"' + ")" * 3000,
    "root ::= root root | root",
    "%import common.WORD\nstart: WORD+",
    "\n".join(f"r{i}: r{i + 1} r{i + 1}" for i in range(300)) + '\nr300: "a"\nstart: r0',
)
attack = bounded(TEXT, *({**SAY, "grammar": grammar} for grammar in GRAMMARS))
