"""The nodes of the radix tree that no request uses, in the order in which they are given up.

First what is spent, then what is merely cached, each in the order of its last use; what contexts keep only when
neither is left. All unpinned nodes are here, not only leaves: whoever lets go of a path enters it deepest node first,
so a node stands before its ancestors, in the same list or in an earlier one, and who is to go first is always a leaf.
"""

from __future__ import annotations

from collections.abc import Iterator

from scheduler_svc.node import LeastRecentlyUsed, Node, link_after, unlink


class Idle:
    """Unpinned nodes. Every operation is O(1), but that ``enter`` looks at a spent node's children."""

    def __init__(self) -> None:
        self.pages = 0
        self._spent, self._cached, self._kept = LeastRecentlyUsed(), LeastRecentlyUsed(), LeastRecentlyUsed()

    @property
    def first(self) -> Node | None:
        """Who goes first; None where contexts keep all there is."""
        return self._spent.oldest or self._cached.oldest

    @property
    def first_kept(self) -> Node | None:
        """Where the context ends that was used least recently, of those that no request goes on from."""
        return self._kept.oldest

    def enter(self, node: Node, clock: int, *, spent: bool) -> None:
        """Nobody uses a node any more; with ``spent`` nobody is expected to, unless its past says otherwise."""
        node.stamp = clock
        self.pages += len(node.pages)
        if node.kept:
            self._kept.append(node)
        elif spent and not node.reused and all(child.spent for child in node.children.values()):
            node.spent = True
            self._spent.append(node)
        else:
            self._cached.append(node)

    def leave(self, node: Node) -> None:
        """A node is used again, is to enter anew, or leaves the tree."""
        self.pages -= len(node.pages)
        node.spent = False
        unlink(node)

    def split(self, lower: Node, upper: Node) -> None:
        """``upper`` is now what was the beginning of a node, ``lower`` the rest of it."""
        upper.spent = lower.spent
        link_after(lower, upper)

    def shortened(self, pages: int) -> None:
        """Some node has so many pages less."""
        self.pages -= pages

    def __iter__(self) -> Iterator[Node]:
        """Who goes first, and who then, and so on to the last."""
        for each in (self._spent, self._cached, self._kept):
            yield from each

    def check(self) -> None:
        """Prove that the lists hold what they should, in order. Raises AssertionError."""
        for each in (self._spent, self._cached, self._kept):
            stamps = [node.stamp for node in each]
            if stamps != sorted(stamps):
                raise AssertionError("a list of idle nodes is out of order")
            for node in each:
                if node.spent != (each is self._spent) or bool(node.kept) != (each is self._kept):
                    raise AssertionError("a node is in the wrong list")
        if self.pages != sum(len(node.pages) for node in self):
            raise AssertionError("idle pages differ from a recount")
