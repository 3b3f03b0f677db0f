"""Who was served how much: a virtual token counter for each tenant that has live requests.

The least served of those that wait goes first. A tenant that comes to wait anew is lifted to the least counter
among those that wait already, so that nobody saves up credit while away: the Virtual Token Counter of Sheng et al.,
"Fairness in Serving Large Language Models", 2024. A computed prompt token weighs 1, one from the cache nothing, a
generated one 2. Knows nothing of the order of one tenant's own requests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scheduler_svc.growing_heap import GrowingHeap

PROMPT_WEIGHT = 1
OUTPUT_WEIGHT = 2
_REMEMBERED = 4096  # tenants without live requests whose counters are kept


@dataclass(slots=True, eq=False)
class Tenant:
    """One tenant's account."""

    name: str = ""
    served: int = 0  # weighted tokens, or what it was lifted to
    live: int = 0  # requests
    rows: int = 0  # of these, on the worker

    @property
    def waiting(self) -> int:
        """How many of its requests are no rows."""
        return self.live - self.rows


class Tenants:
    """The accounts. A tenant that everybody has caught up with and that asks for nothing is forgotten."""

    def __init__(self) -> None:
        self._active: dict[str, Tenant] = {}  # with live requests
        self._idle: dict[str, Tenant] = {}  # served more than those that wait; longest idle first
        self._waiting: GrowingHeap[Tenant] = GrowingHeap(lambda tenant: (tenant.served,), lambda each: each.waiting > 0)
        self._last = Tenant()  # whose request became a row last

    def __len__(self) -> int:
        """How many accounts there are."""
        return len(self._active) + len(self._idle)

    @property
    def several(self) -> bool:
        """There is somebody to be fair to."""
        return len(self._active) > 1

    @property
    def floor(self) -> int:
        """How much a tenant counts as served that comes to wait now, at least."""
        first = self._waiting.first
        return self._last.served if first is None else first.served

    def joins(self, name: str, settle: Callable[[], None]) -> Tenant:
        """A request is announced. ``settle`` brings the counters up to date, where they matter for it."""
        tenant = self._active.get(name)
        if tenant is None:
            tenant = self._active[name] = self._idle.pop(name, None) or Tenant(name)
        if not tenant.waiting:
            if self.several:
                settle()
            tenant.served = max(tenant.served, self.floor)
        tenant.live += 1
        self._waiting.add(tenant)
        return tenant

    @property
    def most_waiting(self) -> Tenant:
        """The one with most requests in the queue. Raises ValueError where nobody has a request at all."""
        return max(self._active.values(), key=lambda tenant: tenant.waiting)

    def starts(self, tenant: Tenant) -> None:
        """A request of it becomes a row."""
        tenant.rows += 1
        self._last = tenant

    def stops(self, tenant: Tenant) -> None:
        """One of its rows is none any more: the request has ended, or waits again."""
        tenant.rows -= 1
        self._waiting.add(tenant)

    def leaves(self, tenant: Tenant) -> None:
        """A request has ended."""
        tenant.live -= 1
        if tenant.live:
            return
        del self._active[tenant.name]
        if not self._active:
            self._idle.clear()
        elif tenant.served > self.floor:
            self._idle[tenant.name] = tenant
            if len(self._idle) > _REMEMBERED:
                del self._idle[next(iter(self._idle))]

    def restart(self) -> None:
        """The worker starts empty: nobody has rows."""
        for tenant in self._active.values():
            tenant.rows = 0
            self._waiting.add(tenant)
