"""Calls by name: the same call twice is computed once, and one that nobody wants any more is ended.

Who computes a context claims its name first and renews the claim while it works. Another who asks for the same waits
for the outcome, or takes over where the claim has run out. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

import msgspec

from tokenizer_svc.api_error import ApiError
from tokenizer_svc.contexts.state import State
from tokenizer_svc.contexts.store import Claimed, Contexts, Kept, Name

_BEAT_S = 1.0
_LOOK_S, _LOOK_MOST_S = 0.02, 0.5  # between looks whether it is there, at first and later
_UNASKED = ("stream", "timeout", "release")  # fields of a body that make no difference to what comes of it


def digest_of(body: dict[str, Any]) -> bytes:
    """Of what a body says, however it is spelt."""
    said = {key: value for key, value in body.items() if key not in _UNASKED}
    return hashlib.sha256(msgspec.json.encode(said, order="deterministic")).digest()


class Calls:
    """The calls of one front door."""

    def __init__(self, contexts: Contexts, keep_s: int) -> None:
        self._contexts = contexts
        self._keep_s = keep_s

    async def begin(self, name: Name, digest: bytes) -> Claimed | Kept:
        """A claim of our own, or what became of the same call. Raises ApiError 409 where another one has the name."""
        claim = Claimed(digest, secrets.token_hex(8))
        pause = _LOOK_S
        while True:
            found = await self._contexts.claim(name, claim)
            match found:
                case None:
                    return claim
                case Kept(digest=other) | Claimed(digest=other) if other != digest:
                    message = f"id: there is a context {name.id!r} already, of another request: make a new name"
                    raise ApiError(409, message, param="id", code="context_exists")
                case Kept():
                    return found
                case _:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LOOK_MOST_S)

    @contextlib.asynccontextmanager
    async def holding(self, name: Name, claim: Claimed) -> AsyncGenerator[None]:
        """What is done here is given up unless it is kept."""
        try:
            yield
        except BaseException:
            await asyncio.shield(self._contexts.unclaim(name, claim))
            raise

    async def wanted(self, name: Name, claim: Claimed, work: Coroutine[Any, Any, None]) -> None:
        """Do the work for as long as it is wanted. Raises as it does, and ApiError 409 where the name was released."""
        working = asyncio.ensure_future(work)
        watching = asyncio.ensure_future(self._watch(name, claim))
        try:
            await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                await watching
                message = f"{name.id} was released while it was being computed"
                raise ApiError(409, message, param="id", code="context_released")
            await working
        finally:
            for task in (watching, working):
                task.cancel()
            await asyncio.gather(watching, working, return_exceptions=True)

    async def _watch(self, name: Name, claim: Claimed) -> None:
        """Renew a claim; returns when that is not possible any more."""
        while True:
            await asyncio.sleep(_BEAT_S)
            with contextlib.suppress(ApiError):  # Redis is away: others cannot get at it either
                if not await self._contexts.holds(name, claim):
                    return

    async def parent(self, name: Name) -> State:
        """What a context says, waiting for one that is being computed. Raises ApiError 404."""
        pause = _LOOK_S
        while True:
            match await self._contexts.find(name):
                case Kept(state=State() as state):
                    return state
                case Claimed():
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LOOK_MOST_S)
                case _:
                    raise self.missing(name.id, "parent")

    def missing(self, id: str, param: str) -> ApiError:
        """404, in words for the client."""
        message = (
            f"{param}: there is no context {id!r} of yours here: they are kept for {self._keep_s} s after their last "
            "use. Send all of it again, from the beginning"
        )
        return ApiError(404, message, param=param, code="context_not_found")
