"""Which request holds which KV pages: takes them from the pool, shares them through the radix tree.

Pages of a request are its own until their tokens enter the tree. Knows nothing of the queue, of plans
or of time.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from typing import NamedTuple

from scheduler_svc.contexts import Contexts
from scheduler_svc.node import Node
from scheduler_svc.pages import PagePool, page_array
from scheduler_svc.radix_tree import Prefix, RadixTree
from scheduler_svc.request import Request
from scheduler_svc.tree_check import check_tree

_CONTEXTS_SHARE = 0.75  # of the pool: what is merely cached, such as a chat's past, has the rest to itself


class Room(NamedTuple):
    """What admitting a request would take."""

    prefix: Prefix
    short: int  # pages that cannot be had; at most 0 if it fits


class KvCache:
    """The pages of one worker. With ``sharing`` off nothing is matched and nothing kept."""

    def __init__(
        self, num_pages: int, page_size: int, *, sharing: bool = True, context_keep_s: float = math.inf
    ) -> None:
        self.page_size = page_size
        self.pool = PagePool(num_pages)
        self.tree = RadixTree(page_size)
        self.contexts = Contexts(self.tree, int(_CONTEXTS_SHARE * num_pages), context_keep_s)
        self.evicted = 0  # pages, ever
        self._sharing = sharing

    @property
    def available(self) -> int:
        """Pages that are free or can be evicted."""
        return self.pool.available + self.tree.evictable_pages

    @property
    def held(self) -> int:
        """Pages in use by requests."""
        return self.pool.num_pages - self.available

    def pages_for(self, positions: int) -> int:
        return -(-positions // self.page_size)

    def prefix(self, request: Request) -> Prefix:
        """What is cached of a waiting request, of what is ``reusable`` for it."""
        if not self._sharing:
            return Prefix(0, 0, None)
        tokens = request.tokens()
        return self.tree.peek(request.generate.namespace, tokens, request.reusable // self.page_size)

    def room(self, request: Request, positions: int, spare: int) -> Room:
        """Could ``positions`` of a waiting request be held, with ``spare`` pages left over?"""
        prefix = self.prefix(request)
        pages = self.pages_for(positions) - prefix.pages
        return Room(prefix, pages + spare - (self.available - prefix.unpinned))

    def admit(self, request: Request, positions: int) -> int:
        """Pin the longest cached prefix and take pages for the rest. Returns the cached tokens.

        Raises ValueError where ``room`` says that it does not fit.
        """
        request.input_ids = tokens = request.tokens()
        request.pages = page_array()
        if self._sharing:
            match = self.tree.match_prefix(request.generate.namespace, tokens, request.reusable // self.page_size)
            self.tree.pin(match.node)
            request.node, request.pages = match.node, match.pages
        request.cached = request.shared = len(request.pages)
        request.planned = request.shared * self.page_size
        request.pages.extend(self._take(self.pages_for(positions) - request.shared))
        return request.planned

    def grow(self, request: Request, positions: int) -> array[int]:
        """Lengthen the page table to hold ``positions``. Returns the new pages.

        Raises ValueError when that is more than ``available``.
        """
        pages = self._take(self.pages_for(positions) - len(request.pages))
        request.pages.extend(pages)
        return pages

    def share(self, request: Request, positions: int, tokens: bytes) -> None:
        """Put the whole pages below ``positions`` into the tree; their KV is computed or planned."""
        full = min(positions // self.page_size, len(request.pages))
        if not self._sharing or full <= request.shared or request.node is None:
            return
        size = self.page_size * 4
        inserted = self.tree.insert(
            request.node, tokens[request.shared * size : full * size], request.pages[request.shared : full]
        )
        request.node, request.shared = inserted.node, full
        request.duplicates.extend(inserted.duplicates)
        self.pool.give(inserted.replaced)

    def drop(self, request: Request) -> None:
        """Take all pages from a row that will come back; its computed tokens stay cached."""
        self.share(request, request.computed, request.tokens())
        self._let_go(request)

    def end(self, request: Request) -> None:
        """Take all pages from a row that has ended; its computed tokens stay cached, and kept if it is a context."""
        self.share(request, request.computed, request.tokens())
        if request.context and request.node is not None:
            self.contexts.keep(request.context, request.node)
        self._let_go(request, spent=request.spent)
        if request.context:
            self.contexts.limit()

    def disown(self, request: Request) -> None:
        """Take all pages from a row that failed: whether what it was to compute is there, nobody knows.

        What it put into the tree leaves the tree, except where others use it already.
        """
        suspects: list[Node] = []
        if request.node is not None:  # cut the path where its own part begins
            self.tree.match_prefix(request.generate.namespace, request.input_ids, request.cached)
        node, end = request.node, request.shared
        while node is not None and end > request.cached:
            suspects.append(node)
            node, end = node.parent, end - len(node.pages)
        self._let_go(request)
        unused = next((suspect for suspect in reversed(suspects) if suspect.pins == 0), None)  # and all below it
        if unused is not None:
            self.contexts.give_up_below(unused)
            self.pool.give(self.tree.discard(unused))

    def evict(self, count: int) -> int:
        """Free ``count`` pages, or all that no request uses; contexts last. Returns how many."""
        freed = 0
        while True:
            pages = self.tree.evict(count - freed)
            self.pool.give(pages)
            freed += len(pages)
            if freed >= count or not self.contexts.give_up_one():
                return freed

    def flush(self) -> int:
        """Drop everything that no request holds. Returns the number of pages."""
        return self.evict(self.tree.evictable_pages)

    def _let_go(self, request: Request, *, spent: bool = False) -> None:
        self.pool.give(request.pages[request.shared :])
        self.pool.give(request.duplicates)
        if request.node is not None:
            self.tree.unpin(request.node, spent=spent)
        request.node, request.shared = None, 0
        request.pages, request.duplicates = page_array(), page_array()
        request.planned = request.limit = request.low_at = 0

    def check(self, requests: Iterable[Request]) -> None:
        """Prove that every page has one owner and every pin a request. Raises AssertionError."""
        owned = page_array()
        pinned: dict[Node, int] = {}
        for request in requests:
            owned.extend(request.pages[request.shared :])
            owned.extend(request.duplicates)
            if request.node is not None:
                pinned[request.node] = pinned.get(request.node, 0) + 1
        for node in self.tree.nodes():
            owned.extend(node.pages)
        check_tree(self.tree, pinned, self.contexts.kept())
        self.pool.check(owned)

    def _take(self, count: int) -> array[int]:
        short = count - self.pool.available
        if short > 0:
            self.evicted += self.evict(short)
        return self.pool.take(count)
