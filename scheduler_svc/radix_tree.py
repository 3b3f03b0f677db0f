"""The radix tree of cached KV: token keys, whole pages, one root per namespace.

It owns the pages in its nodes: pages given to ``insert`` are the tree's until ``evict`` returns them.
A path is pinned while a request uses it, and only unpinned pages are ever evicted, the least recently
used first; a request counts as using its path until it lets go. A path may also be kept, for a context: then its
pages are not evicted, but count as evictable: whoever needs them has to ``unkeep`` them first. After RadixAttention
(Zheng et al., SGLang, 2024). Knows nothing of requests, of free pages, or of whether KV has been computed yet.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from scheduler_svc.idle import Idle
from scheduler_svc.node import Node

_TOKEN_BYTES = 4


class Prefix(NamedTuple):
    """What the tree has of a key, looked up without changing anything."""

    pages: int  # matched
    unpinned: int  # of those, how many could be evicted now
    node: Node | None  # where the match ends, None inside a node or without a root


class Match(NamedTuple):
    """The longest cached prefix of a key."""

    node: Node  # where it ends; pin it before anything else happens to the tree
    pages: array[int]


class Inserted(NamedTuple):
    """What became of the pages given to ``insert``."""

    node: Node  # where the inserted key ends; it carries the caller's pin
    duplicates: array[int]  # given pages the tree did not take: it has others that are in use
    replaced: array[int]  # pages the tree had and gave up for the given ones


class RadixTree:
    """Cached prefixes of every namespace, in pages of ``page_size`` tokens."""

    def __init__(self, page_size: int) -> None:
        self.page_size = page_size
        self.cached_pages = 0  # owned by the tree
        self.kept_pages = 0  # of those, kept for contexts
        self.version = 0  # grows with every change of what is cached
        self._page_bytes = page_size * _TOKEN_BYTES
        self.roots: dict[str, Node] = {}  # by namespace
        self.idle = Idle()
        self.clock = 0  # ticks when somebody lets go

    @property
    def evictable_pages(self) -> int:
        """Pages that no request uses."""
        return self.idle.pages

    @property
    def oldest_kept(self) -> Node | None:
        """Where a context ends: the one used least recently, of those that no request uses."""
        return self.idle.first_kept

    def peek(self, namespace: str, tokens: bytes, limit: int) -> Prefix:
        """How much of ``tokens`` (packed int32) is cached, at most ``limit`` pages of it."""
        node = self.roots.get(namespace)
        if node is None:
            return Prefix(0, 0, None)
        node, matched, inside = self._descend(node, tokens, limit)
        unpinned = inside if inside and node.pins == 0 else 0
        above = node.parent if inside else node
        while above is not None and above.pins == 0:
            unpinned += len(above.pages)
            above = above.parent
        return Prefix(matched, unpinned, None if inside else node)

    def match_prefix(self, namespace: str, tokens: bytes, limit: int) -> Match:
        """The longest cached prefix of ``tokens``, at most ``limit`` pages; splits where it ends inside a node."""
        root = self.roots.get(namespace)
        if root is None:
            root = self.roots[namespace] = Node(namespace.encode(), array("i"), None)
        node, _, inside = self._descend(root, tokens, limit)
        if inside:
            node = self._split(node, inside)
        parts: list[array[int]] = []
        step: Node | None = node
        while step is not None:
            parts.append(step.pages)
            step = step.parent
        pages = array("i")
        for part in reversed(parts):
            pages.extend(part)
        return Match(node, pages)

    def insert(self, node: Node, key: bytes, pages: array[int]) -> Inserted:
        """Add ``key`` (whole pages) below ``node``, which the caller has pinned; the pin moves to its end.

        Where the tree has a part of the key already it keeps its own pages if somebody uses them, and
        takes the given ones in their stead if nobody does.
        """
        duplicates, replaced = array("i"), array("i")
        at = 0
        while at < len(pages):
            child = node.children.get(key[at * self._page_bytes : (at + 1) * self._page_bytes])
            if child is None:
                node = self._grow(node, key[at * self._page_bytes :], pages[at:])
                break
            common = self._common(child.key, key, at * self._page_bytes, len(key))
            if common < len(child.pages):
                child = self._split(child, common)
            given = pages[at : at + common]
            if child.pins == 0:
                self._use(child)
                replaced.extend(child.pages)
                child.pages = given
            else:
                duplicates.extend(given)
            child.pins += 1
            node = child
            at += common
        return Inserted(node, duplicates, replaced)

    def pin(self, node: Node) -> None:
        """Keep the path to ``node`` from eviction, until ``unpin``. O(depth)."""
        step: Node | None = node
        while step is not None:
            if step.pins == 0 and step.parent is not None:
                self._use(step)
            step.pins += 1
            step = step.parent

    def unpin(self, node: Node, *, spent: bool = False) -> None:
        """Let go of the path to ``node``: what nobody else uses becomes the most recently used. O(depth).

        ``spent``: what nobody else has used becomes the first to be evicted instead.
        """
        self.clock += 1
        step: Node | None = node
        while step is not None:
            step.pins -= 1
            above = step.parent
            if step.pins == 0:
                if above is None:
                    self._forget_root(step)
                else:
                    self.idle.enter(step, self.clock, spent=spent)
            step = above

    def keep(self, node: Node) -> None:
        """Keep the path to ``node``, which the caller has pinned, for a context, until ``unkeep``. O(depth)."""
        while node.parent is not None:
            if node.kept == 0:
                self.kept_pages += len(node.pages)
            node.kept += 1
            node = node.parent

    def unkeep(self, node: Node, *, spent: bool) -> None:
        """The context is given up: what nobody else keeps or uses is cached as if just let go, or ``spent``. O(depth).

        ``node`` is what ``keep`` got.
        """
        self.clock += 1
        while node.parent is not None:
            if node.pins == 0 and node.kept == 1:
                self.idle.leave(node)
                node.kept = 0
                self.idle.enter(node, self.clock, spent=spent)
            else:
                node.kept -= 1
            if node.kept == 0:
                self.kept_pages -= len(node.pages)
            node = node.parent

    def evict(self, count: int) -> array[int]:
        """Give up ``count`` pages, or all that are neither pinned nor kept: the least recently used, deepest first."""
        freed = array("i")
        while len(freed) < count:
            leaf = self.idle.first
            if leaf is None:
                break
            keep = max(0, len(leaf.pages) - (count - len(freed)))
            freed.extend(leaf.pages[keep:])
            if keep:
                self.idle.shortened(len(leaf.pages) - keep)
                leaf.pages = leaf.pages[:keep]
                leaf.key = leaf.key[: keep * self._page_bytes]
            else:
                self._remove(leaf)
        self.cached_pages -= len(freed)
        self.version += bool(freed)
        return freed

    def discard(self, node: Node) -> array[int]:
        """Give up ``node`` and everything below it, which no context keeps, unless somebody uses a part of that."""
        freed = array("i")
        if node.pins == 0 and node.parent is not None:
            for below in reversed(list(subtree(node))):
                freed.extend(below.pages)
                self._remove(below)
        self.cached_pages -= len(freed)
        self.version += bool(freed)
        return freed

    def nodes(self) -> Iterator[Node]:
        """All nodes but the roots, parents before children."""
        for root in self.roots.values():
            for child in root.children.values():
                yield from subtree(child)

    def _descend(self, node: Node, tokens: bytes, limit: int) -> tuple[Node, int, int]:
        """Follow ``tokens`` down: the last node reached, pages matched, and how many of them inside that node.

        The last is 0 where the match ends at the node's end.
        """
        size = self._page_bytes
        end = min(limit * size, len(tokens) // size * size)
        at = 0
        while at < end:
            child = node.children.get(tokens[at : at + size])
            if child is None:
                break
            below = at + len(child.key)
            if below > end or not tokens.startswith(child.key, at):
                inside = self._common(child.key, tokens, at, end)
                if inside < len(child.pages):
                    return child, at // size + inside, inside
                below = at + inside * size
            node, at = child, below
        return node, at // size, 0

    def _common(self, key: bytes, tokens: bytes, at: int, end: int) -> int:
        """Whole pages that ``key`` and ``tokens[at:end]`` (bytes) have in common."""
        count = min(len(key), end - at) // _TOKEN_BYTES
        ours = np.frombuffer(key, np.int32, count)
        theirs = np.frombuffer(tokens, np.int32, count, at)
        differ = ours != theirs
        first = int(differ.argmax()) if count else 0
        return (first if count and differ[first] else count) // self.page_size

    def _grow(self, node: Node, key: bytes, pages: array[int]) -> Node:
        self.cached_pages += len(pages)
        self.version += 1
        is_callers = node.pins == 1 and not (node.kept or node.reused or node.children)
        if is_callers and node.parent is not None:  # lengthen it
            node.key += key
            node.pages = node.pages + pages
            return node
        leaf = Node(key, pages, node)
        leaf.pins = 1
        node.children[key[: self._page_bytes]] = leaf
        return leaf

    def _split(self, node: Node, pages: int) -> Node:
        """Cut ``node`` after ``pages`` pages; the lower part stays the same object. Returns the upper part."""
        cut = pages * self._page_bytes
        parent = _parent(node)
        upper = Node(node.key[:cut], node.pages[:pages], parent)
        upper.pins, upper.kept, upper.reused, upper.stamp = node.pins, node.kept, node.reused, node.stamp
        parent.children[node.key[: self._page_bytes]] = upper
        node.key, node.pages, node.parent = node.key[cut:], node.pages[pages:], upper
        upper.children[node.key[: self._page_bytes]] = node
        if node.pins == 0:
            self.idle.split(node, upper)
        return upper

    def _use(self, node: Node) -> None:
        """An unpinned node is about to be pinned."""
        self.idle.leave(node)
        node.reused = node.reused or not node.kept

    def _remove(self, leaf: Node) -> None:
        parent = _parent(leaf)
        self.idle.leave(leaf)
        del parent.children[leaf.key[: self._page_bytes]]
        if parent.parent is None:
            self._forget_root(parent)

    def _forget_root(self, root: Node) -> None:
        if root.pins == 0 and not root.children:
            del self.roots[root.key.decode()]


def subtree(top: Node) -> Iterator[Node]:
    """A node and all below it, parents before children."""
    pending = [top]
    while pending:
        node = pending.pop()
        yield node
        pending.extend(node.children.values())


def _parent(node: Node) -> Node:
    if node.parent is None:
        raise ValueError("a root has no parent")
    return node.parent
