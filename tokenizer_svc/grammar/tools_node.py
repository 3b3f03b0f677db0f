"""The language of tool calls as a tree: free text where it is allowed, and calls in the frame of their format."""

from __future__ import annotations

from collections.abc import Sequence

from shared.grammar import Whitespace
from tokenizer_svc.grammar.nodes import (
    Graph,
    Literal,
    Node,
    Ranges,
    Repeat,
    complement,
    concat,
    normalised,
    optional,
    union,
)
from tokenizer_svc.grammar.tools_spec import ToolsSpec, frame
from tokenizer_svc.tools.formats import SPACE, SYNTAX, Syntax

_SPACE: Ranges = normalised([(ord(char), ord(char)) for char in SPACE])


def tools_node(spec: ToolsSpec, arguments: Sequence[Node], whitespace: Whitespace, most: int) -> Node:
    """The language, given those of the tools' arguments; ``most`` calls where some are required."""
    syntax = SYNTAX[spec.format]
    options: list[Node] = []
    for tool, node in zip(spec.tools, arguments, strict=True):
        before, after = frame(spec.format, tool.name, whitespace)
        options.append(concat(Literal(before), node, Literal(after)))
    call = union(options)
    calls = call
    if spec.parallel:
        calls = concat(call, Repeat(concat(Literal(syntax.joiner), call), 0, most - 1 if spec.required else None))
    if spec.required:
        return calls
    free = free_text(syntax)
    if syntax.is_bare:  # calls or text: what begins as a call is one
        return union([free, concat(optional(Literal(syntax.marker)), calls)])
    return concat(free, Repeat(concat(call, free), 0, None) if spec.parallel else optional(call))


def free_text(syntax: Syntax) -> Graph:
    """Text without a marker, and without an object at its start where that would be a call.

    State k has read the first k characters of the marker, as Knuth, Morris and Pratt have it: its first character
    comes only once in it, so that a text that stops being a marker can only begin one with its last character.
    """
    marker = syntax.marker
    first = _one(marker[0])
    edges: list[tuple[int, Ranges, int]] = []
    for state, char in enumerate(marker):
        expected = _one(char)
        if state + 1 < len(marker):
            edges.append((state, expected, state + 1))
        if state:
            edges.append((state, first, 1))
        edges.append((state, complement(normalised([*first, *expected])), 0))
    states = len(marker)
    if not syntax.is_bare:
        return Graph(states, tuple(edges), frozenset(range(states)))
    # a start of its own: only blank space so far
    shifted = [(source + 1, ranges, target + 1) for source, ranges, target in edges]
    others = complement(normalised([*_SPACE, *first, *_one("{")]))
    start = [(0, _SPACE, 0), (0, first, 2), (0, others, 1)]
    return Graph(states + 1, (*start, *shifted), frozenset(range(states + 1)))


def _one(char: str) -> Ranges:
    return ((ord(char), ord(char)),)
