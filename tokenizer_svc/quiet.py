"""Which choices have got no further for a while. Pure: the caller decides how long a while is."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizer_svc.answers import Choice


class Quiet:
    """What each choice had when they were looked at last."""

    def __init__(self) -> None:
        self._tokens: dict[int, int] = {}

    def look(self, choices: Iterable[Choice]) -> list[Choice]:
        """Those that have no more tokens than at the last look."""
        before, self._tokens = self._tokens, {}
        quiet: list[Choice] = []
        for choice in choices:
            self._tokens[choice.id] = choice.completion_tokens
            if before.get(choice.id) == choice.completion_tokens:
                quiet.append(choice)
        return quiet
