"""What a backend is asked and what it says, counted: tokens, and each generation's prompt in the order of the calls.

Two decorators of backends, `Counted` and `Hintless`; they know nothing of programs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from rootstream.lang.calls import Backend, Call, OnPiece, Outcome, Usage


class Asked(NamedTuple):
    """One request as the engine saw it."""

    prompt: list[int]
    output: list[int]
    scored: int = 0
    """Tokens at the prompt's end whose log-probabilities are wanted."""

    @property
    def reusable(self) -> int:
        """Tokens of the prompt that need not be computed if they are cached: what comes next is known from the last."""
        return max(len(self.prompt) - self.scored - 1, 0)


class Counted:
    """Sums usage; ``answered`` is told each answer of our own server, if it is to know the tokens."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._order: dict[str, int] = {}
        self._asked: dict[str, list[Asked]] = {}
        self.usage = Usage()
        self.calls = 0

    async def run(self, call: Call, on_piece: OnPiece | None = None) -> Outcome:
        self._order.setdefault(call.id, len(self._order))
        outcome = await self._backend.run(call, on_piece)
        self.calls += 1
        self.usage += outcome.usage
        return outcome

    async def release(self, ids: Sequence[str]) -> None:
        await self._backend.release(ids)

    async def close(self) -> None:
        await self._backend.close()

    def answered(self, answer: Mapping[str, Any]) -> None:
        """An answer with token_ids."""
        self._asked[answer["id"]] = asked(answer)

    def requests(self) -> list[Asked]:
        """All generations, in the order in which their calls were made."""
        last = len(self._order)
        calls = sorted(self._asked, key=lambda call: self._order.get(call, last))
        return [request for call in calls for request in self._asked[call]]


class Hintless:
    """The same calls without what they tell of the program: no group, nothing computed ahead, nothing released."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def run(self, call: Call, on_piece: OnPiece | None = None) -> Outcome:
        plain = msgspec.structs.replace(call, group=None, prefill=False, release=(), keep=True)
        return await self._backend.run(plain, on_piece)

    async def release(self, ids: Sequence[str]) -> None:
        """Nobody is told."""

    async def close(self) -> None:
        await self._backend.close()


def asked(answer: Mapping[str, Any]) -> list[Asked]:
    """What the engine was asked for a call, cut out of the tokens of its context.

    A choice that is scored is a prompt that ends in it, with nothing generated; so is a context that was warmed
    as a whole, after what was generated in it.
    """
    ids: list[int] = answer["token_ids"]
    found: list[Asked] = []
    for part in answer["parts"]:
        prompt = ids[: part["prompt_tokens"]]
        if part["type"] == "select":
            found += [Asked([*prompt, *choice], [], len(choice)) for choice in part["tokens"]]
        else:
            end = part["prompt_tokens"] + part["completion_tokens"]
            found.append(Asked(prompt, ids[part["prompt_tokens"] : end]))
    if answer["usage"]["prompt_tokens"] > sum(len(request.prompt) for request in found):
        found.append(Asked(ids, []))
    return found
