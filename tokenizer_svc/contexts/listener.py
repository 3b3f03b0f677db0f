"""Who is told of a call while it runs. Knows nothing of how it is told."""

from __future__ import annotations

from typing import Protocol

from tokenizer_svc.answers import Answer
from tokenizer_svc.contexts.shapes import Delta, Result


class Listener(Protocol):
    """Told of each part in order."""

    def watch(self, answer: Answer) -> None:
        """The sequences that are computed now."""
        ...

    async def wrote(self, deltas: list[Delta]) -> None:
        """More text of a part. Raises ConnectionError where nobody is there any more."""
        ...

    async def ended(self, result: Result) -> None:
        """A part is over. Raises ConnectionError likewise."""
        ...
