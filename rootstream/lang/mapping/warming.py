"""What all items of a map say at their beginning, and that the server computes it once, before they all come.

The first few items' bodies run up to their first call, which is kept back: that is enough to see how they begin.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn

import msgspec

from rootstream.lang.calls import Backend, Call, CallError, OnPiece, Outcome
from rootstream.lang.tracing.prefixes import characters, common_beginning

PEEKED = 3  # items that are looked at
_WORTH = 64  # characters: a shorter beginning is computed as fast as it is announced
_PEEK_S = 10.0  # a body that has asked nothing by then is doing something else first


class Grouped:
    """A backend for the items of one map, which share a beginning and their time."""

    def __init__(self, backend: Backend, group: str) -> None:
        self._backend = backend
        self._group = group

    async def run(self, call: Call, on_piece: OnPiece | None = None) -> Outcome:
        if call.group is None:
            call = msgspec.structs.replace(call, group=self._group)
        return await self._backend.run(call, on_piece)

    async def release(self, ids: Sequence[str]) -> None:
        await self._backend.release(ids)

    async def close(self) -> None:
        await self._backend.close()


class _First:
    """A backend that only takes the first call, and answers nobody."""

    def __init__(self) -> None:
        self.call: asyncio.Future[Call] = asyncio.get_running_loop().create_future()

    async def run(self, call: Call, on_piece: OnPiece | None = None) -> NoReturn:  # noqa: ARG002
        if not self.call.done():
            self.call.set_result(call)
        await asyncio.Event().wait()
        raise AssertionError

    async def release(self, ids: Sequence[str]) -> None: ...

    async def close(self) -> None: ...


async def first_call(program: Callable[[Backend], Awaitable[Any]]) -> Call | None:
    """What a program asks first; None for one that asks nothing, or fails before."""
    backend = _First()
    running = asyncio.ensure_future(program(backend))
    try:
        await asyncio.wait((running, backend.call), timeout=_PEEK_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return backend.call.result() if backend.call.done() else None


async def warm(backend: Backend, group: str, firsts: Sequence[Call]) -> str | None:
    """Have the common beginning of these calls computed; the context that holds it, to be released in the end.

    None where they have little in common, or the server has no way to do it.
    """
    beginning = common_beginning([call.parts for call in firsts]) if len(firsts) > 1 else ()
    if characters(beginning) < _WORTH:
        return None
    call = Call(
        id=uuid.uuid4().hex,
        parts=beginning,
        tools=firsts[0].tools,
        template_kwargs=firsts[0].template_kwargs,
        group=group,
        prefill=True,
    )
    try:
        await backend.run(call)
    except CallError:  # the items do without, and say themselves what is wrong with the server
        return None
    return call.id
