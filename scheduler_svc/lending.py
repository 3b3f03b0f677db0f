"""Granting rows KV positions ahead of what they have used, within the pages there are.

Who makes room where there are none is decided elsewhere. Knows nothing of the queue or of prompts.
"""

from __future__ import annotations

from collections.abc import Callable

from scheduler_svc import leases
from scheduler_svc.draft import Draft
from scheduler_svc.kv_cache import KvCache
from scheduler_svc.pages import page_array
from scheduler_svc.request import Request, State, seniority


class Lending:
    """The leases of one batch's rows."""

    def __init__(
        self, lease: int, cache: KvCache, rows: dict[Request, None], make_room: Callable[[Request], bool]
    ) -> None:
        """``make_room`` sees to a free page for a row; False if there is none for now."""
        self.lease = lease
        self.hungry: dict[Request, None] = {}  # rows whose lease runs low
        self._cache = cache
        self._rows = rows
        self._make_room = make_room

    def lend(self, request: Request, limit: int) -> None:
        """A row may use the positions below ``limit``."""
        low = leases.runs_low_at(limit, self.lease, request.max_positions)
        request.limit, request.low_at = limit, low - request.prompt_len + 1

    def extend(self, draft: Draft, decoding: int) -> None:
        """Grant more to the hungry ones of ``decoding`` rows."""
        lease, cache = self.lease, self._cache
        if cache.available >= decoding * (1 + cache.pages_for(lease)):
            self._extend_all(draft)  # then all run low together again
            return
        lease = leases.affordable(lease, cache.available * cache.page_size, decoding)
        for request in sorted(self.hungry, key=seniority):
            if request.state is State.DECODING and self._extended(draft, request, lease):
                self.hungry.pop(request, None)

    def _extend_all(self, draft: Draft) -> None:
        """Grant every decoding row a whole lease: there are pages for all, so nobody has to make room.

        A row that grammars forced far ahead wants more than a lease, and is seen to when the others have theirs.
        """
        lease, page_size = self.lease, self._cache.page_size
        ahead: list[Request] = []
        for request in self._rows:
            if request.state is not State.DECODING:
                continue
            limit = leases.limit(request.wanted, lease, request.max_positions)
            if limit > request.limit + lease:
                ahead.append(request)
            elif limit > request.limit:
                held = len(request.pages) * page_size
                pages = self._cache.grow(request, limit) if limit > held else page_array()
                self.lend(request, limit)
                draft.grant(request, pages)
        self.hungry.clear()
        for request in ahead:
            if request.state is State.DECODING and not self._extended(draft, request, lease):
                self.hungry[request] = None

    def _extended(self, draft: Draft, request: Request, lease: int) -> bool:
        """Grant a row more positions, as many as there is room for. False if it cannot draw its next token yet."""
        wanted = leases.limit(request.wanted, lease, request.max_positions)
        limit = min(wanted, self._holdable(request))
        if limit <= request.limit < wanted:
            if request.limit > request.computed or not self._make_room(request):
                return False
            limit = min(wanted, self._holdable(request))
        if limit > request.limit:
            pages = self._cache.grow(request, limit)
            self.lend(request, limit)
            draft.grant(request, pages)
        return request.limit > request.wanted

    def _holdable(self, request: Request) -> int:
        return (len(request.pages) + self._cache.available) * self._cache.page_size
