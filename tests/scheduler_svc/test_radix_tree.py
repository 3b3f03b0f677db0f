"""The radix tree and the page pool against a brute-force oracle that keeps every page by itself."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, precondition, rule

from scheduler_svc.node import Node
from scheduler_svc.pages import PagePool, page_array
from scheduler_svc.radix_tree import RadixTree
from shared import columns

Key = tuple[str, tuple[int, ...]]  # namespace, pages of tokens from the start, as indices of the alphabet


@dataclass
class CachedPage:
    page: int
    stamp: int = 0  # when it was last let go
    pins: int = 0


@dataclass
class Oracle:
    """All cached pages, each under the whole prefix that leads to it."""

    pages: dict[Key, CachedPage] = field(default_factory=dict)
    clock: int = 0

    def path(self, namespace: str, tokens: tuple[int, ...]) -> list[CachedPage]:
        found: list[CachedPage] = []
        for depth in range(1, len(tokens) + 1):
            cached = self.pages.get((namespace, tokens[:depth]))
            if cached is None:
                break
            found.append(cached)
        return found

    def pin(self, namespace: str, tokens: tuple[int, ...], change: int) -> None:
        self.clock += change < 0
        for cached in self.path(namespace, tokens):
            cached.pins += change
            if change < 0:
                cached.stamp = self.clock

    def evict(self, count: int) -> list[int]:
        """The least recently used unpinned pages, one after the other; deeper ones first where equal."""
        freed: list[int] = []
        while len(freed) < count:
            free = [(cached.stamp, -len(key[1]), key) for key, cached in self.pages.items() if cached.pins == 0]
            if not free:
                break
            freed.append(self.pages.pop(min(free)[2]).page)
        return freed


@dataclass(eq=False)
class Holder:
    """A request: its path in the tree is pinned."""

    namespace: str
    tokens: tuple[int, ...]
    node: Node


class TreeAgainstOracle(RuleBasedStateMachine):
    page_size = 1
    holders = Bundle("holders")
    namespaces = st.sampled_from(["", "a"])
    sequences = st.lists(st.integers(0, 2), max_size=7).map(tuple)

    def __init__(self) -> None:
        super().__init__()
        size = self.page_size
        self.alphabet = [[0] * size, [0] * (size - 1) + [1], [3] * size]  # two differ in their last token only
        self.tree = RadixTree(size)
        self.pool = PagePool(40)
        self.oracle = Oracle()
        self.live: list[Holder] = []
        self.private = page_array()

    def packed(self, tokens: tuple[int, ...], tail: int = 0) -> bytes:
        return columns.int32([token for page in tokens for token in self.alphabet[page]] + [2] * tail)

    @rule(target=holders, namespace=namespaces, tokens=sequences, limit=st.integers(0, 8))
    def start(self, namespace: str, tokens: tuple[int, ...], limit: int) -> Holder:
        key = self.packed(tokens, tail=self.page_size - 1)
        known = self.oracle.path(namespace, tokens[:limit])
        prefix = self.tree.peek(namespace, key, limit)
        assert prefix.pages == len(known)
        assert prefix.unpinned == sum(cached.pins == 0 for cached in known)
        match = self.tree.match_prefix(namespace, key, limit)
        assert list(match.pages) == [cached.page for cached in known]
        self.tree.pin(match.node)
        self.oracle.pin(namespace, tokens[: len(known)], 1)
        holder = Holder(namespace, tokens[: len(known)], match.node)
        self.live.append(holder)
        return holder

    @rule(target=holders, holder=consumes(holders), more=sequences)
    def insert(self, holder: Holder, more: tuple[int, ...]) -> object:
        if len(more) > self.pool.available:
            more = more[: self.pool.available]
        pages = self.pool.take(len(more))
        inserted = self.tree.insert(holder.node, self.packed(more), pages)
        duplicates, replaced = page_array(), page_array()
        for page, depth in zip(pages, range(len(holder.tokens) + 1, 99), strict=False):
            key = (holder.namespace, (holder.tokens + more)[:depth])
            cached = self.oracle.pages.setdefault(key, CachedPage(page))
            if cached.page != page and cached.pins:
                duplicates.append(page)
            elif cached.page != page:
                replaced.append(cached.page)
                cached.page = page
            cached.pins += 1
        assert inserted.duplicates == duplicates
        assert inserted.replaced == replaced
        self.pool.give(replaced)
        self.private.extend(duplicates)
        holder.node, holder.tokens = inserted.node, holder.tokens + more
        return holder

    @rule(holder=consumes(holders))
    def let_go(self, holder: Holder) -> None:
        self.tree.unpin(holder.node)
        self.oracle.pin(holder.namespace, holder.tokens, -1)
        self.live.remove(holder)

    @rule(count=st.integers(0, 12))
    def evict(self, count: int) -> None:
        freed = self.tree.evict(count)
        assert sorted(freed) == sorted(self.oracle.evict(count))
        self.pool.give(freed)

    @precondition(lambda self: self.private)
    @rule()
    def return_duplicates(self) -> None:
        self.pool.give(self.private)
        self.private = page_array()

    @rule(target=holders, holder=consumes(holders))
    def fail(self, holder: Holder) -> object:
        """A request whose pages nobody should trust: its last node goes, with what hangs below."""
        node, depth = holder.node, len(holder.tokens)
        above = depth - len(node.pages)
        self.tree.unpin(node)
        self.oracle.pin(holder.namespace, holder.tokens, -1)
        self.live.remove(holder)
        doomed = [
            key
            for key in self.oracle.pages
            if key[0] == holder.namespace and key[1][: above + 1] == holder.tokens[: above + 1] and len(key[1]) > above
        ]
        gone = node.pins == 0 and node.parent is not None
        freed = self.tree.discard(node)
        if gone:
            assert sorted(freed) == sorted(self.oracle.pages.pop(key).page for key in doomed)
        else:
            assert not freed
        self.pool.give(freed)
        return multiple()

    @invariant()
    def sound(self) -> None:
        pinned: dict[Node, int] = {}
        for holder in self.live:
            pinned[holder.node] = pinned.get(holder.node, 0) + 1
        self.tree.check(pinned)
        owned = array("i", self.private)
        for node in self.tree.nodes():
            owned.extend(node.pages)
        self.pool.check(owned)
        assert sorted(cached.page for cached in self.oracle.pages.values()) == sorted(set(owned) - set(self.private))


class TreeOfWidePages(TreeAgainstOracle):
    page_size = 16


TestPageSize1 = TreeAgainstOracle.TestCase
TestPageSize1.settings = settings(deadline=None, max_examples=120, stateful_step_count=40)
TestPageSize16 = TreeOfWidePages.TestCase
TestPageSize16.settings = settings(deadline=None, max_examples=80, stateful_step_count=40)


def insert(tree: RadixTree, tokens: list[int], pages: list[int], namespace: str = "") -> None:
    """What a request that computes all of ``tokens`` leaves behind."""
    match = tree.match_prefix(namespace, columns.int32(tokens), len(tokens))
    tree.pin(match.node)
    done = len(match.pages)
    inserted = tree.insert(
        match.node, columns.int32(tokens[done * tree.page_size :]), page_array(pages[done : len(pages)])
    )
    tree.unpin(inserted.node)


def test_a_match_ends_where_the_tokens_differ() -> None:
    tree = RadixTree(1)
    insert(tree, [1, 2, 3, 4], [10, 11, 12, 13])
    insert(tree, [1, 2, 5], [0, 0, 14])
    for tokens, pages in (([1, 2, 3, 9], [10, 11, 12]), ([1, 2, 5, 5], [10, 11, 14]), ([2], []), ([1, 2], [10, 11])):
        assert list(tree.match_prefix("", columns.int32(tokens), 99).pages) == pages


def test_a_page_is_shared_as_a_whole_or_not_at_all() -> None:
    tree = RadixTree(4)
    insert(tree, [1, 2, 3, 4, 5, 6, 7, 8], [0, 1])
    assert tree.peek("", columns.int32([1, 2, 3, 4, 5, 6, 7, 9]), 99).pages == 1
    assert tree.peek("", columns.int32([1, 2, 3]), 99).pages == 0


def test_eviction_takes_the_deepest_page_of_the_oldest_leaf_first() -> None:
    tree = RadixTree(1)
    insert(tree, [1, 2, 3], [10, 11, 12])
    insert(tree, [7, 8], [20, 21])
    insert(tree, [1, 2, 4], [0, 0, 13])
    assert [list(tree.evict(1)) for _ in range(6)] == [[12], [21], [20], [13], [11], [10]]
    tree.check({})


def test_nothing_pinned_is_ever_evicted() -> None:
    tree = RadixTree(1)
    insert(tree, [1, 2, 3], [0, 1, 2])
    node = tree.match_prefix("", columns.int32([1, 2]), 2).node
    tree.pin(node)
    assert list(tree.evict(9)) == [2]
    tree.unpin(node)
    assert sorted(tree.evict(9)) == [0, 1]


def test_pages_are_taken_all_or_nothing() -> None:
    pool = PagePool(3)
    with pytest.raises(ValueError, match="4 pages wanted, 3 free"):
        pool.take(4)
    assert sorted(pool.take(3)) == [0, 1, 2]
    with pytest.raises(AssertionError):
        pool.check([0, 1])
    with pytest.raises(AssertionError):
        pool.check([0, 1, 2, 2])
