"""A backend in memory: what it generates is a function of the text before it, the name and the seed."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Sequence

from rootstream.lang.calls import Call, CallError, OnPiece, Outcome, Result, Usage
from rootstream.lang.messages import messages_of, text_of
from rootstream.lang.parts import Gen, Message, Open, Part, Select, Text


def canonical(parts: Sequence[Part]) -> str:
    """What a context says, however it was cut."""
    said = ""
    for part in parts:
        match part:
            case Text(text):
                said += text
            case Open(role):
                said += f"<{role}>"
            case Message(message):
                said += f"<{message}>"
            case _:
                said += f"</{type(part).__name__}>"
    return said


class Memory:
    """Answers at once, or when its turn comes; remembers every call and what it keeps.

    With ``order`` calls end in an order drawn from it. ``broken`` says which generations fail, by their names.
    """

    def __init__(
        self,
        order: random.Random | None = None,
        broken: Callable[[str], bool] = lambda _: False,
        answers: dict[str, str | Result] | None = None,
    ) -> None:
        self.calls: list[Call] = []
        self.cancelled: list[str] = []
        self.released: list[str] = []
        self.kept: dict[str, tuple[Part, ...]] = {}
        self.running = 0
        self.most_running = 0
        self.closed = 0
        self.hold = asyncio.Event()
        self.hold.set()
        self._order = order
        self._broken = broken
        self._answers = answers or {}

    async def run(self, call: Call, on_piece: OnPiece | None = None) -> Outcome:
        assert all(call.id != earlier.id for earlier in self.calls), "a call is made once"
        self.calls.append(call)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if self._order is not None:
                for _ in range(self._order.randrange(8)):
                    await asyncio.sleep(0)
            else:
                await asyncio.sleep(0)
            await self.hold.wait()
            return await self._answer(call, on_piece)
        except asyncio.CancelledError:
            self.cancelled.append(call.id)
            raise
        finally:
            self.running -= 1

    async def _answer(self, call: Call, on_piece: OnPiece | None) -> Outcome:
        said: tuple[Part, ...] = ()
        if call.parent is not None:
            assert call.parent in self.kept, f"{call.parent} is not kept"
            said = self.kept[call.parent]
            assert canonical(said) == canonical(call.history()), "the history is what was said"
        results: list[Result] = []
        for place, part in enumerate(call.parts):
            match part:
                case Gen() | Select():
                    if self._broken(part.name):
                        raise CallError(f"{part.name} is broken", 500)
                    result = self._generated(part, place, canonical(said))
                    if on_piece is not None:
                        for piece in result.text:
                            on_piece(place, piece)
                            await asyncio.sleep(0)
                    results.append(result)
                    said = (*said, Text(result.text))
                case _:
                    said = (*said, part)
        for id in call.release:
            self._forget(id)
        if call.keep:
            self.kept[call.id] = said
        return Outcome(tuple(results), Usage(len(canonical(said)), len(results)))

    def _generated(self, part: Gen | Select, place: int, before: str) -> Result:
        given = self._answers.get(part.name)
        if isinstance(given, Result):
            return Result(
                name=part.name,
                text=given.text,
                part=place,
                tool_calls=given.tool_calls,
                reasoning_content=given.reasoning_content,
            )
        draws = [hashed(before, part.name, getattr(part, "seed", None), k) for k in range(getattr(part, "n", 1))]
        if isinstance(part, Select):
            index = int(draws[0], 16) % len(part.choices)
            scores = tuple(float(k == index) for k in range(len(part.choices)))
            return Result(name=part.name, text=part.choices[index], part=place, index=index, scores=scores)
        texts = tuple(draws) if given is None else (given,) * part.n
        return Result(name=part.name, text=texts[0], part=place, texts=texts if part.n > 1 else ())

    async def release(self, ids: Sequence[str]) -> None:
        for id in ids:
            self._forget(id)

    def _forget(self, id: str) -> None:
        self.released.append(id)
        self.kept.pop(id, None)

    async def close(self) -> None:
        self.closed += 1


def hashed(before: str, name: str, seed: int | None, number: int) -> str:
    return hashlib.sha256(f"{before}|{name}|{seed}|{number}".encode()).hexdigest()[:6]


__all__ = ["Memory", "canonical", "hashed", "messages_of", "text_of"]
