"""A graph for people: a tree on the terminal, Graphviz, Mermaid, HTML for notebooks. Knows nothing of dry runs."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from rootstream.lang.tracing.graph import Graph, Node

_WIDTH = 100
_SHOWN = 70  # characters of a call's text
_SIBLINGS = 5  # so many branches of one kind are drawn, the others are counted


def headline(graph: Graph) -> str:
    """What the whole comes to, in one line."""
    tokens = graph.tokens
    about = "" if tokens.are_counted else "about "
    words = [
        _count(len(graph), "call"),
        _count(graph.generations, "generation"),
        *([_count(graph.forks + len(graph.shared), "branch", "branches")] if graph.forks else []),
        f"{about}{tokens.sent:,} tokens sent" + (f" instead of {tokens.whole:,}" if tokens.whole > tokens.sent else ""),
        *([f"at most {tokens.generated:,} generated"] if tokens.generated else []),
    ]
    return ", ".join(words)


def plain(graph: Graph) -> str:
    """The tree as text."""
    told = io.StringIO()
    Console(file=told, width=_WIDTH, color_system=None, force_jupyter=False, legacy_windows=False).print(tree(graph))
    return "\n".join(line.rstrip() for line in told.getvalue().splitlines())


def tree(graph: Graph) -> Tree:
    top = Tree(Text.assemble((graph.name, "bold"), ": ", headline(graph)))
    _grow(top, graph, graph.roots)
    for node in graph.shared:
        top.add(Text(f"said once, used by {_count(node.users, 'call')}: {_short(node.text)}", style="green"))
    if graph.alike:
        top.add(Text(f"all {len(graph.roots)} roots begin with: {_short(graph.alike)}", style="green"))
    if graph.error:
        top.add(Text(graph.error, style="red"))
    return top


def _grow(top: Tree, graph: Graph, nodes: Sequence[Node]) -> None:
    """A line of calls that go on from one another stays on one level: only forks are indented."""
    shown = _drawn(nodes)
    for node in shown:
        place = top.add(_label(node))
        children = graph.children(node)
        while len(children) == 1:
            place.add(_label(children[0]))
            children = graph.children(children[0])
        _grow(place, graph, children)
    if len(nodes) > len(shown):
        top.add(Text(f"… and {len(nodes) - len(shown):,} more like these", style="dim"))


def _drawn(nodes: Sequence[Node]) -> Sequence[Node]:
    """Of what goes off beside each other, the first few of each name."""
    seen: Counter[str] = Counter()
    shown: list[Node] = []
    for node in nodes:
        seen[node.name] += 1
        if seen[node.name] <= _SIBLINGS:
            shown.append(node)
    return shown


def _label(node: Node) -> Text:
    said = _short(node.text)
    return Text.assemble((node.name, "cyan"), f"  {said!r}" if said else "", (f"  {node.tokens:,} tokens", "dim"))


def dot(graph: Graph) -> str:
    lines = ["digraph {", "  rankdir=TB;", '  node [shape=box, fontname="sans-serif"];']
    numbers = _numbers(graph)
    for node, number in numbers.items():
        label = _quoted(f"{graph_line(node)}\n{_short(node.text)}")
        lines.append(f"  {number} [label={label}{', style=bold' if node in graph.shared else ''}];")
    lines += [f"  {numbers[above]} -> {numbers[below]};" for above, below in graph.edges]
    return "\n".join([*lines, "}"])


def mermaid(graph: Graph) -> str:
    numbers = _numbers(graph)
    lines = ["graph TD"]
    lines += [
        f'  {number}["{_entities(graph_line(node))}<br/>{_entities(_short(node.text))}"]'
        for node, number in numbers.items()
    ]
    lines += [f"  {numbers[above]} --> {numbers[below]}" for above, below in graph.edges]
    return "\n".join(lines)


def html(graph: Graph) -> str:
    shared = graph.shared
    rows = "".join(_html_rows(graph, graph.roots, shared))
    error = f'<p style="color:#b00020">{escape(graph.error)}</p>' if graph.error else ""
    return (
        f'<div style="font:13px/1.5 system-ui,sans-serif"><b>{escape(graph.name)}</b>: {escape(headline(graph))}'
        f'<ul style="margin:.3em 0;padding-left:1.4em">{rows}</ul>{error}</div>'
    )


def _html_rows(graph: Graph, nodes: Sequence[Node], shared: Sequence[Node]) -> Iterator[str]:
    shown = _drawn(nodes)
    for node in shown:
        line = [node]
        while len(children := graph.children(line[-1])) == 1:
            line.append(children[0])
        for one in line:
            used = f' <span style="color:#188038">used by {_count(one.users, "call")}</span>' if one in shared else ""
            yield (
                f'<li><b>{escape(one.name)}</b> <code style="white-space:pre-wrap">{escape(_short(one.text))}</code> '
                f'<span style="opacity:.6">{one.tokens:,} tokens</span>{used}</li>'
            )
        if children:
            yield f'<ul style="padding-left:1.4em">{"".join(_html_rows(graph, children, shared))}</ul>'
    if len(nodes) > len(shown):
        yield f'<li style="opacity:.6">… and {len(nodes) - len(shown):,} more like these</li>'


def graph_line(node: Node) -> str:
    return f"{node.name} ({node.tokens:,} tokens)"


def _numbers(graph: Graph) -> dict[Node, str]:
    return {node: f"n{number}" for number, node in enumerate(graph.nodes)}


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def _short(text: str) -> str:
    """The beginning and the end, which is where calls differ."""
    if len(text) <= _SHOWN:
        return text
    return f"{text[: _SHOWN // 2]} … {text[-_SHOWN // 2 :]}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _entities(text: str) -> str:
    """For Mermaid: nothing in it that could end the label, or begin a tag."""
    safe = "".join(char if char.isalnum() or char in " .,:!?'()-_=+/" else f"#{ord(char)};" for char in text)
    return safe.replace("#10;", "<br/>")
