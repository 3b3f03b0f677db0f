"""The radix tree and the page pool against a brute-force oracle that keeps every page by itself."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, precondition, rule

from scheduler_svc.contexts import Contexts
from scheduler_svc.node import Node
from scheduler_svc.pages import PagePool, page_array
from scheduler_svc.radix_tree import RadixTree
from scheduler_svc.tree_check import check_tree
from shared import columns

KEEP_S = 10
Key = tuple[str, tuple[int, ...]]  # namespace, pages of tokens from the start, as indices of the alphabet


@dataclass
class CachedPage:
    page: int
    stamp: int = 0  # when it was last let go
    pins: int = 0
    kept: int = 0  # contexts
    reused: bool = False
    spent: bool = False

    def use(self) -> None:
        if self.pins == 0:
            self.reused = self.reused or not self.kept
            self.spent = False
        self.pins += 1


@dataclass
class Oracle:
    """All cached pages, each under the whole prefix that leads to it."""

    pages: dict[Key, CachedPage] = field(default_factory=dict)
    contexts: dict[str, Key] = field(default_factory=dict)
    clock: int = 0

    def path(self, namespace: str, tokens: tuple[int, ...]) -> list[CachedPage]:
        found: list[CachedPage] = []
        for depth in range(1, len(tokens) + 1):
            cached = self.pages.get((namespace, tokens[:depth]))
            if cached is None:
                break
            found.append(cached)
        return found

    def pin(self, namespace: str, tokens: tuple[int, ...]) -> None:
        for cached in self.path(namespace, tokens):
            cached.use()

    def let_go(self, namespace: str, tokens: tuple[int, ...], *, spent: bool) -> None:
        self.clock += 1
        for depth in range(len(tokens), 0, -1):
            cached = self.pages[namespace, tokens[:depth]]
            cached.pins -= 1
            if cached.pins == 0:
                self.rest((namespace, tokens[:depth]), spent=spent)

    def keep(self, name: str, namespace: str, tokens: tuple[int, ...]) -> None:
        for cached in self.path(namespace, tokens):
            cached.kept += 1
        self.release(name, spent=True)
        if tokens:
            self.contexts[name] = (namespace, tokens)

    def release(self, name: str, *, spent: bool) -> None:
        if name not in self.contexts:
            return
        self.clock += 1
        namespace, tokens = self.contexts.pop(name)
        for depth in range(len(tokens), 0, -1):
            cached = self.pages[namespace, tokens[:depth]]
            cached.kept -= 1
            if not cached.kept and not cached.pins:
                self.rest((namespace, tokens[:depth]), spent=spent)

    def rest(self, key: Key, *, spent: bool) -> None:
        """Nobody uses a page any more."""
        cached = self.pages[key]
        following = [other for (space, tokens), other in self.pages.items() if (space, tokens[:-1]) == key]
        cached.stamp = self.clock
        cached.spent = spent and not (cached.kept or cached.reused) and all(other.spent for other in following)

    def evict(self, count: int) -> list[int]:
        """Spent pages, then the least recently used that no context keeps; deeper ones first where equal."""
        freed: list[int] = []
        while len(freed) < count:
            free = [
                (not cached.spent, cached.stamp, -len(key[1]), key)
                for key, cached in self.pages.items()
                if cached.pins == cached.kept == 0
            ]
            if not free:
                break
            freed.append(self.pages.pop(min(free)[3]).page)
        return freed

    @property
    def oldest_context(self) -> tuple[str, tuple[int, ...]] | None:
        """Where the one used least recently ends, of those that no request goes on from."""
        idle = [
            (self.pages[place].stamp, -len(place[1]), place)
            for place in self.contexts.values()
            if self.pages[place].pins == 0
        ]
        return min(idle)[2] if idle else None


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
    names = st.sampled_from(["c0", "c1", "c2"])
    sequences = st.lists(st.integers(0, 2), max_size=7).map(tuple)

    def __init__(self) -> None:
        super().__init__()
        size = self.page_size
        self.alphabet = [[0] * size, [0] * (size - 1) + [1], [3] * size]  # two differ in their last token only
        self.tree = RadixTree(size)
        self.pool = PagePool(40)
        self.contexts = Contexts(self.tree, 99, KEEP_S)
        self.oracle = Oracle()
        self.now = 0
        self.marks: list[tuple[int, int]] = []
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
        self.oracle.pin(namespace, tokens[: len(known)])
        holder = Holder(namespace, tokens[: len(known)], match.node)
        self.live.append(holder)
        return holder

    @rule(target=holders, holder=consumes(holders), more=sequences)
    def insert(self, holder: Holder, more: tuple[int, ...]) -> Holder:
        if len(more) > self.pool.available:
            more = more[: self.pool.available]
        pages = self.pool.take(len(more))
        inserted = self.tree.insert(holder.node, self.packed(more), pages)
        duplicates, replaced = page_array(), page_array()
        for page, depth in zip(pages, range(len(holder.tokens) + 1, 99), strict=False):
            key = (holder.namespace, (holder.tokens + more)[:depth])
            cached = self.oracle.pages.setdefault(key, CachedPage(page))
            is_new = cached.page == page
            if cached.page != page and cached.pins:
                duplicates.append(page)
            elif cached.page != page:
                replaced.append(cached.page)
                cached.page = page
            if is_new:
                cached.pins = 1
            else:
                cached.use()
        assert inserted.duplicates == duplicates
        assert inserted.replaced == replaced
        self.pool.give(replaced)
        self.private.extend(duplicates)
        holder.node, holder.tokens = inserted.node, holder.tokens + more
        return holder

    @rule(holder=consumes(holders), spent=st.booleans())
    def let_go(self, holder: Holder, spent: bool) -> None:
        self.tree.unpin(holder.node, spent=spent)
        self.oracle.let_go(holder.namespace, holder.tokens, spent=spent)
        self.live.remove(holder)

    @rule(
        namespace=namespaces, tokens=st.lists(st.integers(0, 1), min_size=1, max_size=5).map(tuple),
        name=st.none() | names, spent=st.booleans(),
    )  # fmt: skip
    def serve(self, namespace: str, tokens: tuple[int, ...], name: str | None, spent: bool) -> None:
        """A whole life: what is cached, the rest, a context or none."""
        self.start(namespace, tokens, len(tokens))
        holder = self.live[-1]
        self.insert(holder, tokens[len(holder.tokens) :])
        if name is not None:
            self.keep(holder, name)
        self.let_go(holder, spent)

    @rule(holder=holders, name=names)
    def keep(self, holder: Holder, name: str) -> None:
        self.contexts.keep(name, holder.node)
        self.oracle.keep(name, holder.namespace, holder.tokens)

    @rule(name=names)
    def release(self, name: str) -> None:
        self.contexts.release(name)
        self.oracle.release(name, spent=True)

    @rule()
    def give_up_one(self) -> None:
        place = self.oracle.oldest_context
        assert self.contexts.give_up_one() == (place is not None)
        if place is not None:
            for name in [name for name, there in self.oracle.contexts.items() if there == place]:
                self.oracle.release(name, spent=False)

    @rule(seconds=st.integers(0, 6))
    def expire(self, seconds: int) -> None:
        self.now += seconds
        self.contexts.expire(self.now)
        self.marks.append((self.now, self.oracle.clock))
        due = max((clock for now, clock in self.marks if self.now - now >= KEEP_S), default=-1)
        while (place := self.oracle.oldest_context) is not None and self.oracle.pages[place].stamp <= due:
            for name in [name for name, there in self.oracle.contexts.items() if there == place]:
                self.oracle.release(name, spent=True)

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
        self.oracle.let_go(holder.namespace, holder.tokens, spent=False)
        self.live.remove(holder)
        doomed = [
            key
            for key in self.oracle.pages
            if key[0] == holder.namespace and key[1][: above + 1] == holder.tokens[: above + 1] and len(key[1]) > above
        ]
        gone = node.pins == 0 and node.parent is not None
        if gone:
            self.contexts.give_up_below(node)
            for name in [name for name, place in self.oracle.contexts.items() if place in doomed]:
                self.oracle.release(name, spent=True)
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
        check_tree(self.tree, pinned, self.contexts.kept())
        assert sum(self.contexts.kept().values()) == len(self.contexts) == len(self.oracle.contexts)
        spent = [page for node in self.tree.nodes() if node.spent for page in node.pages]
        assert sorted(spent) == sorted(cached.page for cached in self.oracle.pages.values() if cached.spent)
        assert self.tree.kept_pages == sum(cached.kept > 0 for cached in self.oracle.pages.values())
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
    check_tree(tree, {}, {})


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
