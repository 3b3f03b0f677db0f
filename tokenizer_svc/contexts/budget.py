"""Which contexts have to go so that those of one tenant take no more than they may. Pure: time is an argument.

Everything is looked at now and then, by whoever has written much since the last time: so it is bounded what a tenant
takes beyond its share, nothing has to be counted along, and what any process forgot to count is found.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

_SHARE = 8  # of what a tenant may have, after which one process looks again


class Held(NamedTuple):
    """A context in the list of a tenant's: its name and size, and when it was used last, in unix seconds."""

    member: str
    used: float

    @classmethod
    def member_of(cls, id: str, size: int) -> str:
        return f"{id}:{size}"

    @property
    def id(self) -> str:
        return self.member.partition(":")[0]

    @property
    def size(self) -> int:
        return int(self.member.partition(":")[2])


class Surplus(NamedTuple):
    """What is to go."""

    expired: list[Held]  # that have gone by themselves
    oldest: list[Held]


def surplus(held: Iterable[Held], most: int, keep_s: float, now: float) -> Surplus:
    """``held``: oldest first. ``most``: bytes."""
    alive: list[Held] = []
    expired: list[Held] = []
    for each in held:
        (expired if now - each.used > keep_s else alive).append(each)
    excess = sum(each.size for each in alive) - most
    oldest: list[Held] = []
    for each in alive:
        if excess <= 0:
            break
        excess -= each.size
        oldest.append(each)
    return Surplus(expired, oldest)


class Written:
    """How much this process has written for each tenant since it looked."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._since: dict[str, int] = {}

    def is_due(self, tenant: str, size: int) -> bool:
        """Note what is written; whether to look now."""
        since = self._since.get(tenant, self._most) + size
        if since < self._most // _SHARE:
            self._since[tenant] = since
            return False
        self._since[tenant] = 0
        return True
