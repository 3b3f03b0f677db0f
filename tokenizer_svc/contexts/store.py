"""Where contexts are kept, as the rest of the package sees it; service.py does it over the streams' server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from tokenizer_svc.contexts.state import State


class Name(NamedTuple):
    """A context's, which no other tenant can write."""

    tenant: str
    id: str

    def __str__(self) -> str:
        return f"{self.tenant}/{self.id}"


class Claimed(msgspec.Struct, frozen=True, tag="claimed"):
    """Somebody computes it now."""

    digest: bytes  # of the request
    owner: str  # who, a word that nobody else has


class Kept(msgspec.Struct, frozen=True, tag="kept"):
    """It is there."""

    digest: bytes
    answer: bytes  # to the request that made it
    state: State | None  # None: nothing can go on from it


class Dropped(msgspec.Struct, frozen=True, tag="dropped"):
    """Nobody wants it any more, not even if it is being computed."""


Record = Claimed | Kept | Dropped


class Contexts(Protocol):
    """The contexts of all tenants. Methods raise ApiError 503 where they cannot be reached."""

    async def find(self, name: Name) -> Record | None:
        """What is known of a context, whose time begins anew."""
        ...

    async def claim(self, name: Name, claim: Claimed) -> Record | None:
        """Announce that it will be computed; what is there already, or None."""
        ...

    async def holds(self, name: Name, claim: Claimed) -> bool:
        """Announce it once more; False where it was dropped meanwhile, or is another's."""
        ...

    async def unclaim(self, name: Name, claim: Claimed) -> None:
        """It will not be computed. Raises nothing."""
        ...

    async def keep(self, name: Name, kept: Kept, seconds: int, release: Sequence[Name]) -> None:
        """Keep a context, and let others go."""
        ...

    async def release(self, names: Sequence[Name]) -> list[bool]:
        """Let contexts go: which of them were there."""
        ...
