"""Which contexts are kept in the radix tree: the KV of finished sequences that somebody means to go on from.

They are kept softly. A context is given up when its pages are needed and there are no others to evict, when contexts
hold more than their share, and when it has not been used for as long as its front door remembers it; always the one
used least recently. Losing one costs time, never a token. Knows nothing of requests or of pages.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from scheduler_svc.node import Node
from scheduler_svc.radix_tree import RadixTree, subtree

_TICK_S = 1.0  # how exactly their age is known


class _Mark(NamedTuple):
    at: float  # unix seconds
    clock: int  # the tree's


class Contexts:
    """The names of the contexts that a tree keeps. What is done to one costs O(depth)."""

    def __init__(self, tree: RadixTree, most_pages: int, keep_s: float) -> None:
        """``most_pages`` may be kept at most, each for ``keep_s`` after its last use."""
        self._tree = tree
        self._most_pages = most_pages
        self._keep_s = keep_s
        self._nodes: dict[str, Node] = {}
        self._names: dict[Node, set[str]] = {}  # of the contexts that end there
        self._marks: deque[_Mark] = deque()  # when the tree's clock stood where
        self.given_up = 0  # for want of room, ever

    def __len__(self) -> int:
        return len(self._nodes)

    def keep(self, name: str, node: Node) -> None:
        """Keep the path to ``node``, which is pinned. A context of that name ends there from now on.

        What was kept under that name beyond the new path, such as tokens after a stop string, nobody goes on from.
        """
        self._tree.keep(node)
        self._forget(name, spent=True)
        if node.parent is None:  # not a page of it is whole
            return
        self._nodes[name] = node
        self._names.setdefault(node, set()).add(name)

    def release(self, name: str) -> None:
        """Nobody goes on from a context: its pages go first, but for those that somebody else uses."""
        self._forget(name, spent=True)

    def limit(self) -> None:
        """Give up contexts until the others have no more than their share, or are all in use."""
        while self._tree.kept_pages > self._most_pages and self.give_up_one():
            pass

    def give_up_one(self) -> bool:
        """Give up what was used least recently. False if every context is in use, or there is none."""
        node = self._tree.oldest_kept
        if node is None:
            return False
        self.given_up += len(self._names[node])
        self._give_up(node, spent=False)
        return True

    def give_up_below(self, top: Node) -> None:
        """Nobody should trust the pages of a node, or of those below it."""
        for node in list(subtree(top)):
            if node in self._names:
                self._give_up(node, spent=True)

    def expire(self, now: float) -> None:
        """Give up what was not used for so long; called again and again."""
        marks, due = self._marks, None
        if not marks or now - marks[-1].at >= _TICK_S:
            marks.append(_Mark(now, self._tree.clock))
        while marks and now - marks[0].at >= self._keep_s:
            due = marks.popleft().clock
        if due is None:
            return
        while (node := self._tree.oldest_kept) is not None and node.stamp <= due:
            self._give_up(node, spent=True)

    def kept(self) -> dict[Node, int]:
        """How many contexts end at each node, for the tree's check."""
        return {node: len(names) for node, names in self._names.items()}

    def _give_up(self, node: Node, *, spent: bool) -> None:
        for name in list(self._names[node]):
            self._forget(name, spent=spent)

    def _forget(self, name: str, *, spent: bool) -> None:
        node = self._nodes.pop(name, None)
        if node is None:
            return
        names = self._names[node]
        names.remove(name)
        if not names:
            del self._names[node]
        self._tree.unkeep(node, spent=spent)
