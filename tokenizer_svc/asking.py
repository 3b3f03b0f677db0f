"""Whose text is missing, and when to ask for it again. Pure: time is an argument.

A choice is named when text comes without what goes before it, and off the list as soon as it has got on.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenizer_svc.answers import Choice

AGAIN_S = 1.0  # between two questions: the first, or its answer, may have been lost, too
PATIENCE_S = 30.0  # after which nobody is going to answer


@dataclass(slots=True)
class _Asked:
    choice: Choice
    have: int  # tokens
    since: float
    at: float


class Asking:
    """The choices that lack some of their text."""

    def __init__(self) -> None:
        self._asked: dict[int, _Asked] = {}

    def __len__(self) -> int:
        return len(self._asked)

    def lacks(self, choice: Choice, now: float) -> bool:
        """Text came too early. Whether to ask for what is missing: not if that was done a moment ago."""
        asked = self._asked.get(choice.id)
        if asked is None or asked.have < choice.completion_tokens:
            self._asked[choice.id] = _Asked(choice, choice.completion_tokens, now, now)
            return True
        return self._is_due(asked, now)

    def due(self, now: float) -> list[Choice]:
        """Those to ask for once more."""
        self._asked = {id: asked for id, asked in self._asked.items() if _is_stuck(asked)}
        return [asked.choice for asked in self._asked.values() if self._is_due(asked, now)]

    def hopeless(self, now: float) -> list[Choice]:
        """Those that were asked for too long, and are not asked for any more."""
        found = [asked.choice for asked in self._asked.values() if now - asked.since > PATIENCE_S]
        for choice in found:
            del self._asked[choice.id]
        return found

    def forget(self, ids: list[int]) -> None:
        """Nobody waits for these any more."""
        for id in ids:
            self._asked.pop(id, None)

    def _is_due(self, asked: _Asked, now: float) -> bool:
        if now - asked.at < AGAIN_S:
            return False
        asked.at = now
        return True


def _is_stuck(asked: _Asked) -> bool:
    return asked.choice.completion_tokens == asked.have
