"""The order of the queue: who was on a worker that died, then priority, then the tenant served least. Among one
tenant's requests the longest cached prefix, aged; or first come first served.

A second of waiting weighs as much as ``AGING_TOKENS`` cached tokens, so nobody starves. Because all
age alike, ``arrived * AGING_TOKENS - cached tokens`` orders a tenant's requests whatever the time is: they are a heap,
and only a change of what is cached moves a request. That is looked up lazily: for a few requests a round, in
turn, and for whoever comes out first.

Once a request of a group has been admitted, the others of that group count as having ``GROUP_TOKENS`` more cached
tokens until the last of them has ended: what they share is computed once and used before it can be evicted. Others of
their tenant wait that much longer for them, and no more; other tenants and priorities do not.
"""

from __future__ import annotations

import enum
import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from scheduler_svc.groups import Group
from scheduler_svc.growing_heap import GrowingHeap
from scheduler_svc.request import Request
from scheduler_svc.tenants import Tenant

AGING_TOKENS = 256.0  # per second of waiting
GROUP_TOKENS = 2048.0  # eight seconds
_LOOK_AGAIN = 8  # waiting requests whose prefix is looked up anew each round
_COMPACT_AT = 64  # stale entries the heap may hold besides as many as there are requests


class Policy(enum.StrEnum):
    """Which waiting request goes first."""

    LPM = "lpm"
    FCFS = "fcfs"


class _Rank(NamedTuple):
    aged: float  # the smallest rank goes first
    order: int


@dataclass(slots=True, eq=False)
class _Entry:
    request: Request
    lane: Lane
    rank: _Rank
    version: int  # of the tree when its prefix was looked up


@dataclass(slots=True, eq=False)
class Lane:
    """The waiting requests of one tenant and priority; those that were rows of a worker that died are apart."""

    returns: bool
    priority: int
    tenant: Tenant
    size: int = 0
    heap: list[tuple[_Rank, int, _Entry]] = field(default_factory=list[tuple[_Rank, int, _Entry]])


class Queue:
    """Waiting requests. ``cached_tokens`` looks up how much of a request the tree holds."""

    def __init__(self, policy: Policy, cached_tokens: Callable[[Request], int]) -> None:
        self._policy = policy
        self._cached_tokens = cached_tokens
        self._entries: dict[Request, _Entry] = {}
        self._lanes: dict[tuple[bool, int, Tenant], Lane] = {}  # those that hold requests
        self._order: GrowingHeap[Lane] = GrowingHeap(
            lambda lane: (not lane.returns, -lane.priority, lane.tenant.served), lambda lane: lane.size > 0
        )
        self._tickets = itertools.count()  # equal ranks are taken in the order they were given
        self._turns: deque[_Entry] = deque()
        self._groups: dict[Group, dict[Request, None]] = {}  # who waits of those that have not started

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def first(self) -> Lane | None:
        """Where the first request stands."""
        return self._order.first

    def push(self, request: Request, version: int) -> None:
        """Enter, or enter again. ``version`` is the tree's."""
        self.remove(request)
        entry = _Entry(request, self._lane(request), self._rank(request), version)
        self._entries[request] = entry
        entry.lane.size += 1
        self._order.add(entry.lane)
        self._turns.append(entry)
        self._offer(entry)
        if request.group is not None and not request.group.started:
            self._groups.setdefault(request.group, {})[request] = None

    def starts(self, group: Group) -> None:
        """One of a group is a row: the others go sooner. Costs something once in a group's life."""
        if group.started:
            return
        group.started = True
        for request in self._groups.pop(group, ()):
            if self._policy is Policy.LPM:
                entry = self._entries[request]
                entry.rank = _Rank(entry.rank.aged - GROUP_TOKENS, request.order)
                self._offer(entry)

    def remove(self, request: Request) -> None:
        """Leave, wherever in the order; nothing happens if it is not in the queue."""
        entry = self._entries.pop(request, None)
        if entry is not None:
            lane = entry.lane
            lane.size -= 1
            if not lane.size:
                del self._lanes[lane.returns, lane.priority, lane.tenant]
            self._leave_group(request)

    def pop(self, version: int) -> Request | None:
        """Take the first request out."""
        looked_up = 0
        while (lane := self._order.first) is not None:
            rank, _, entry = heapq.heappop(lane.heap)
            if rank is not entry.rank or self._entries.get(entry.request) is not entry:
                continue
            if entry.version != version and looked_up < _LOOK_AGAIN:
                looked_up += 1
                if self._update(entry, version) and lane.heap and entry.rank > lane.heap[0][0]:
                    self._offer(entry)
                    continue
            self.remove(entry.request)
            return entry.request
        return None

    def refresh(self, version: int) -> None:
        """Look up a few waiting requests again, each in its turn: their prefix may have been cached since."""
        for _ in range(min(_LOOK_AGAIN, len(self._turns))):
            entry = self._turns.popleft()
            if self._entries.get(entry.request) is not entry:
                continue
            self._turns.append(entry)
            if entry.version != version and self._update(entry, version):
                self._offer(entry)
        if len(self._turns) > 2 * len(self._entries) + _COMPACT_AT:
            self._turns = deque(self._entries.values())

    def _leave_group(self, request: Request) -> None:
        if request.group is not None and (waiting := self._groups.get(request.group)) is not None:
            waiting.pop(request, None)
            if not waiting:
                del self._groups[request.group]

    def _lane(self, request: Request) -> Lane:
        key = request.returns, request.generate.priority, request.tenant
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(*key)
        return lane

    def _offer(self, entry: _Entry) -> None:
        lane = entry.lane
        if len(lane.heap) > 2 * lane.size + _COMPACT_AT:
            kept = [
                held for held in lane.heap if held[0] is held[2].rank and self._entries.get(held[2].request) is held[2]
            ]
            heapq.heapify(kept)
            lane.heap = kept
        heapq.heappush(lane.heap, (entry.rank, next(self._tickets), entry))

    def _update(self, entry: _Entry, version: int) -> bool:
        rank = self._rank(entry.request)
        entry.version = version
        if rank == entry.rank:
            return False
        entry.rank = rank
        return True

    def _rank(self, request: Request) -> _Rank:
        aged = request.generate.arrived * AGING_TOKENS
        if self._policy is Policy.LPM:
            aged -= self._cached_tokens(request)
            if request.group is not None and request.group.started:
                aged -= GROUP_TOKENS
        return _Rank(aged, request.order)
