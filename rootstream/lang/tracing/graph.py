"""A program's calls as a tree: who goes on from whom, what is said once and used by many, how many tokens that takes.

Pure: made of calls and their outcomes, whoever answered them. Knows nothing of how it is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from rootstream.lang.calls import Call, Outcome
from rootstream.lang.parts import Gen, Image, Message, Part, Select, Text
from rootstream.lang.tracing.prefixes import common_text

_CHARACTERS_A_TOKEN = 4  # of English, by rule of thumb; used where nobody counts


class Said(NamedTuple):
    """A stretch of a call: text, or a generation by its name."""

    kind: str  # text, gen, select, message, image; else the role of a message that begins, or "" where it ends
    text: str
    limit: int | None = None  # the most tokens that a generation may take


class Node(NamedTuple):
    """One call. ``users`` counts the calls that go on from it, however far down: what it says is sent once for all."""

    id: str
    parent: str | None
    group: str | None
    said: tuple[Said, ...]
    tokens: int
    depth: int
    users: int
    is_prefill: bool

    @property
    def name(self) -> str:
        names = [said.text for said in self.said if said.kind in {"gen", "select"}]
        return ", ".join(names) or ("prefill" if self.is_prefill else "text")

    @property
    def text(self) -> str:
        """All of it, generations as {names}."""
        return "".join(f"{{{said.text}}}" if said.kind in {"gen", "select"} else said.text for said in self.said)


class Tokens(NamedTuple):
    """Of a whole program, without what a chat template adds."""

    sent: int  # each call sends what is new
    whole: int  # had each call sent all from the beginning
    generated: int | None  # at most; None where a generation has no limit of its own
    are_counted: bool  # by a tokenizer; otherwise taken to be 4 characters each


class Graph:
    """What a dry run found."""

    def __init__(
        self, name: str, nodes: Sequence[Node], *, error: str | None = None, are_counted: bool = False
    ) -> None:
        self.name = name
        self.nodes = tuple(nodes)
        self.error = error
        """Why the program did not come to its end."""
        self._are_counted = are_counted
        self._by_id = {node.id: node for node in nodes}
        self._children: dict[str | None, list[Node]] = {}
        for node in nodes:
            self._children.setdefault(node.parent if node.parent in self._by_id else None, []).append(node)

    def __len__(self) -> int:
        """Calls."""
        return len(self.nodes)

    @property
    def roots(self) -> Sequence[Node]:
        return self._children.get(None, ())

    def children(self, node: Node) -> Sequence[Node]:
        return self._children.get(node.id, ())

    @property
    def edges(self) -> Sequence[tuple[Node, Node]]:
        """From each call to those that go on from it."""
        return [(node, child) for node in self.nodes for child in self.children(node)]

    @property
    def shared(self) -> Sequence[Node]:
        """Calls that several go on from, those that save most first."""
        found = [node for node in self.nodes if len(self.children(node)) > 1]
        return sorted(found, key=lambda node: -node.tokens * node.users)

    @property
    def forks(self) -> int:
        """Branches that go off beside the first of their kind."""
        return sum(len(self.children(node)) - 1 for node in self.shared)

    @property
    def alike(self) -> str:
        """How all roots begin, where there are several: sent by each, computed once by a server with a radix cache."""
        if len(self.roots) < 2:
            return ""
        return common_text([node.text for node in self.roots])

    @property
    def generations(self) -> int:
        return sum(said.kind in {"gen", "select"} for node in self.nodes for said in node.said)

    @property
    def tokens(self) -> Tokens:
        whole: dict[str, int] = {}
        for node in self.nodes:
            whole[node.id] = node.tokens + whole.get(node.parent or "", 0)
        limits = [said.limit for node in self.nodes for said in node.said if said.kind == "gen"]
        known = [limit for limit in limits if limit is not None]
        generated = sum(known) if len(known) == len(limits) else None
        return Tokens(sum(node.tokens for node in self.nodes), sum(whole.values()), generated, self._are_counted)

    def __str__(self) -> str:
        from rootstream.lang.tracing.drawing import plain

        return plain(self)

    __repr__ = __str__

    def __rich__(self) -> object:
        from rootstream.lang.tracing.drawing import tree

        return tree(self)

    def dot(self) -> str:
        """For Graphviz."""
        from rootstream.lang.tracing.drawing import dot

        return dot(self)

    def mermaid(self) -> str:
        """For Markdown that knows Mermaid."""
        from rootstream.lang.tracing.drawing import mermaid

        return mermaid(self)

    def _repr_html_(self) -> str:
        from rootstream.lang.tracing.drawing import html

        return html(self)


def graph_of(
    name: str, answered: Iterable[tuple[Call, Outcome]], *, counted: Mapping[str, int] | None, error: str | None
) -> Graph:
    """``counted``: tokens by text, where somebody counted all of :func:`texts_of`."""
    answered = list(answered)
    parents = {call.id: call.parent for call, _ in answered}
    users = dict.fromkeys(parents, 0)
    depths: dict[str, int] = {}
    for call, _ in answered:
        depths[call.id] = depths.get(call.parent or "", -1) + 1
        above = call.parent
        while above in users:
            users[above] += 1
            above = parents[above]
    length = (counted or {}).get if counted is not None else lambda text: -(-len(text) // _CHARACTERS_A_TOKEN)
    nodes = [_node(call, depths[call.id], users[call.id], length) for call, _ in answered]
    return Graph(name, nodes, error=error, are_counted=counted is not None)


def texts_of(calls: Iterable[Call]) -> set[str]:
    """Every text of its own that somebody might count."""
    return {text for call in calls for part in call.parts if (text := _text(part))}


def _node(call: Call, depth: int, users: int, length: Callable[[str], int | None]) -> Node:
    return Node(
        id=call.id,
        parent=call.parent,
        group=call.group,
        said=tuple(_said(part) for part in call.parts),
        tokens=sum(length(text) or 0 for part in call.parts if (text := _text(part))),
        depth=depth,
        users=users,
        is_prefill=call.prefill,
    )


def _said(part: Part) -> Said:
    match part:
        case Text(text):
            return Said("text", text)
        case Gen(name=name):
            return Said("gen", name, None if part.max_tokens is None else part.max_tokens * part.n)
        case Select(name=name):
            return Said("select", name)
        case Image(url):
            return Said("image", url)
        case Message():
            return Said("message", _text(part))
        case _:
            return Said(getattr(part, "role", ""), "")


def _text(part: Part) -> str:
    """What a server reads of a part."""
    match part:
        case Text(text):
            return text
        case Message(message):
            content = message.get("content")
            if isinstance(content, list):
                return "".join(str(piece.get("text", "")) for piece in content if isinstance(piece, dict))
            return str(content or "")
        case _:
            return ""
