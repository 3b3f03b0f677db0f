"""Prefixes on their way: who is about to prefill what, and who waits for it.

A request whose next page another one is about to prefill is parked until as much as they have in common
is planned, then it finds that in the tree. Only whole pages count.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scheduler_svc.node import Node
from scheduler_svc.request import Request


class _Next(NamedTuple):
    """The page a request will prefill next: the path that leads to it and its tokens."""

    node: Node
    page: bytes


class _Parked(NamedTuple):
    request: Request
    wake_at: int  # pages of the owner's input in the tree


class InFlight:
    """An index of prefilling requests by their next page."""

    def __init__(self, page_size: int) -> None:
        self._page_bytes = page_size * 4
        self._owners: dict[_Next, Request] = {}
        self._next: dict[Request, _Next] = {}
        self._parked: dict[Request, list[_Parked]] = {}

    def owner(self, node: Node | None, request: Request, pages: int) -> Request | None:
        """Who is about to prefill the page of ``request`` that follows its cached ``pages``, if they may be shared."""
        if node is None or not self._owners:
            return None
        size = self._page_bytes
        if (pages + 1) * size > 4 * request.reusable:  # it will be computed anyway
            return None
        return self._owners.get(_Next(node, request.tokens()[pages * size : (pages + 1) * size]))

    def park(self, request: Request, owner: Request) -> None:
        """Set a waiting request aside until ``owner`` has planned what they have in common."""
        ours, theirs = request.tokens(), owner.input_ids
        limit = request.reusable * 4 // self._page_bytes
        wake_at = min(_common_tokens(ours, theirs) * 4 // self._page_bytes, limit)
        self._parked.setdefault(owner, []).append(_Parked(request, wake_at))

    def advance(self, owner: Request) -> list[Request]:
        """Note how far ``owner`` got. Returns the parked requests that need wait no longer, oldest first."""
        self._forget(owner)
        following = (owner.shared + 1) * self._page_bytes
        if owner.node is None or following > len(owner.input_ids):
            return self.end(owner)
        page = _Next(owner.node, owner.input_ids[following - self._page_bytes : following])
        if self._owners.setdefault(page, owner) is owner:
            self._next[owner] = page
        waiting = self._parked.get(owner)
        if not waiting:
            return []
        woken = [parked.request for parked in waiting if parked.wake_at <= owner.shared]
        if woken:
            self._parked[owner] = [parked for parked in waiting if parked.wake_at > owner.shared]
        return woken

    def end(self, owner: Request) -> list[Request]:
        """``owner`` prefills no more: everybody parked behind it goes back to the queue."""
        self._forget(owner)
        return [parked.request for parked in self._parked.pop(owner, ())]

    def _forget(self, owner: Request) -> None:
        page = self._next.pop(owner, None)
        if page is not None:
            del self._owners[page]


def _common_tokens(ours: bytes, theirs: bytes) -> int:
    count = min(len(ours), len(theirs)) // 4
    differ = np.frombuffer(ours, np.int32, count) != np.frombuffer(theirs, np.int32, count)
    first = int(differ.argmax()) if count else 0
    return first if count and differ[first] else count
