"""The proof that a radix tree is sound: every count equals a recount, every list is in order. For audits and tests."""

from __future__ import annotations

from scheduler_svc.node import Node
from scheduler_svc.radix_tree import RadixTree


def check_tree(tree: RadixTree, pinned: dict[Node, int], kept: dict[Node, int]) -> None:
    """Prove a tree sound. Raises AssertionError.

    ``pinned`` says how often each node is pinned, ``kept`` how many contexts end there.
    """
    pins, keeps = _with_ancestors(pinned), _with_ancestors(kept)
    page_bytes = 4 * tree.page_size
    place = {node: position for position, node in enumerate(tree.idle)}
    cached = kept_pages = unpinned = 0
    for node in tree.nodes():
        parent = node.parent
        assert parent is not None
        _require(len(node.pages) > 0, "an empty node")
        _require(len(node.key) == len(node.pages) * page_bytes, "key and pages differ in length")
        _require(parent.children.get(node.key[:page_bytes]) is node, "a child under a wrong key")
        _require(node.pins == pins.pop(node, 0), "pins are not balanced")
        _require(parent.pins >= node.pins, "a pin that does not reach the root")
        _require(node.kept == keeps.pop(node, 0), "contexts are not balanced")
        _require((node.pins == 0) == (node in place), "unpinned nodes and the lists of idle ones differ")
        _require(node.spent <= (node in place), "spent and in use")
        if parent in place:
            _require(place[node] < place[parent], "an ancestor is evicted before its descendant")
        cached += len(node.pages)
        unpinned += node.pins == 0
        kept_pages += len(node.pages) if node.kept else 0
    for root in tree.roots.values():
        _require(root.pins == pins.pop(root, 0), "pins are not balanced")
        _require(bool(root.children or root.pins), "an unused root")
    tree.idle.check()
    _require(len(place) == unpinned, "the lists of idle nodes hold some that are not in the tree")
    _require(not any(pins.values()), "a pinned node is not in the tree")
    _require(all(node.parent is None for node in keeps), "a context ends at a node that is not in the tree")
    _require(cached == tree.cached_pages, "cached_pages differs from a recount")
    _require(kept_pages == tree.kept_pages, "kept_pages differs from a recount")


def _with_ancestors(counts: dict[Node, int]) -> dict[Node, int]:
    """How often paths go through each node, given how many end where."""
    found: dict[Node, int] = {}
    for node, count in counts.items():
        step: Node | None = node
        while step is not None:
            found[step] = found.get(step, 0) + count
            step = step.parent
    return found


def _require(holds: bool, claim: str) -> None:
    if not holds:
        raise AssertionError(claim)
