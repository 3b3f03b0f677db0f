"""A node of the radix tree, and a list of nodes in the order of their last use.

The list is threaded through the nodes themselves, so that entering, leaving and taking the oldest are
O(1). A node is in one list at most.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator


class Node:
    """An edge of the tree and its lower end: a run of whole pages, and what follows them.

    ``key`` holds the tokens of the run (int32, packed), ``pages`` where their KV is. ``pins`` counts the
    requests whose path goes through here, ``kept`` the contexts.
    """

    __slots__ = ("children", "kept", "key", "newer", "older", "pages", "parent", "pins", "reused", "spent", "stamp")

    def __init__(self, key: bytes, pages: array[int], parent: Node | None) -> None:
        self.key = key
        self.pages = pages
        self.parent = parent
        self.children: dict[bytes, Node] = {}  # by the tokens of the child's first page
        self.pins = 0
        self.kept = 0
        self.reused = False  # somebody came back to it when neither a request nor a context held it
        self.spent = False  # nobody is expected to come back to it: among the first to be evicted
        self.stamp = 0  # the tree's clock when it was last let go
        self.older = self.newer = self  # neighbours in the list; itself while it is in none


class LeastRecentlyUsed:
    """Nodes, oldest first."""

    def __init__(self) -> None:
        self._end = Node(b"", array("i"), None)  # closes the ring: its `newer` is the oldest node

    @property
    def oldest(self) -> Node | None:
        node = self._end.newer
        return None if node is self._end else node

    def append(self, node: Node) -> None:
        """Enter as the newest."""
        link_after(self._end.older, node)

    def __iter__(self) -> Iterator[Node]:
        node = self._end.newer
        while node is not self._end:
            yield node
            node = node.newer


def link_after(place: Node, node: Node) -> None:
    """Let a node into the list that ``place`` is in, as the next newer one."""
    newer = place.newer
    node.older, node.newer = place, newer
    place.newer = newer.older = node


def unlink(node: Node) -> None:
    """Take a node out of the list that it is in."""
    node.older.newer, node.newer.older = node.newer, node.older
    node.older = node.newer = node
