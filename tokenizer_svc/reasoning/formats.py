"""The marks between which models think aloud, and where an answer stands with regard to them when it begins.

Sources: the chat templates of the models themselves. ``<think>`` is that of DeepSeek R1, Qwen 3, QwQ, GLM 4.5, SmolLM 3
and their kin, ``[THINK]`` that of Mistral's Magistral, ``<seed:think>`` that of ByteDance's Seed-OSS. Knows nothing of
requests.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from shared.chat_template import ChatTemplate

SPACE = " \t\n\r"
"""Blank space beside a mark belongs to the mark."""


class ReasoningFormat(enum.StrEnum):
    """Named as in ``--reasoning-format``."""

    NONE = "none"
    THINK = "think"
    MISTRAL = "mistral"
    SEED_OSS = "seed-oss"


class Marks(NamedTuple):
    """What stands before and after reasoning. The first character of the closer is in it only once."""

    opener: str
    closer: str


MARKS = {
    ReasoningFormat.THINK: Marks("<think>", "</think>"),
    ReasoningFormat.MISTRAL: Marks("[THINK]", "[/THINK]"),
    ReasoningFormat.SEED_OSS: Marks("<seed:think>", "</seed:think>"),
}


class Opening(enum.Enum):
    """Where an answer is when it begins."""

    BEFORE = enum.auto()  # it may open reasoning itself, at its very start
    WITHIN = enum.auto()  # its prompt has opened it
    AFTER = enum.auto()  # its prompt has closed it: there is none


def choose(setting: str, *templates: ChatTemplate | None) -> Marks | None:
    """The marks of the format set, or for "auto" of the first one that a template knows; None where there are none."""
    if setting != "auto":
        return MARKS.get(ReasoningFormat(setting))
    sources = [template.source for template in templates if template is not None]
    for marks in MARKS.values():
        if any(mark in source for source in sources for mark in marks):
            return marks
    return None


def opening_of(tail: str, marks: Marks) -> Opening:
    """Where an answer is that follows a prompt, given the prompt's end."""
    end = tail.rstrip(SPACE)
    if end.endswith(marks.closer):
        return Opening.AFTER
    return Opening.WITHIN if end.endswith(marks.opener) else Opening.BEFORE
