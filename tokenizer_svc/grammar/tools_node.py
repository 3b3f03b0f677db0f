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
    is_single = not syntax.begin and not spec.required and not syntax.bare  # what is one by one has no joiner
    calls = call
    if spec.parallel and not is_single:
        calls = concat(call, Repeat(concat(Literal(syntax.joiner), call), 0, most - 1 if spec.required else None))
    calls = concat(Literal(syntax.begin), calls, Literal(syntax.end)) if syntax.begin else calls
    if spec.required:
        return calls
    free = free_text(syntax)
    if syntax.bare:  # calls or text: what begins as a call is one
        return union([free, concat(union([Literal(marker) for marker in ("", *syntax.markers)]), calls)])
    return concat(free, Repeat(concat(calls, free), 0, None) if spec.parallel else optional(calls))


def free_text(syntax: Syntax) -> Graph:
    """Text without a marker, and without an object at its start where that would be a call.

    A state is what has been read of some marker: their first character comes only once in each, so that a text that
    stops being a marker can only begin one with its last character.
    """
    begun = sorted({marker[:length] for marker in syntax.markers for length in range(len(marker))})
    state_of = {text: state for state, text in enumerate(begun)}  # the empty one is the first
    first = _one(syntax.marker[0])
    edges: list[tuple[int, Ranges, int]] = []
    for text, state in state_of.items():
        following = {marker[len(text)] for marker in syntax.markers if marker.startswith(text) and marker != text}
        edges += [(state, _one(char), state_of[text + char]) for char in following if text + char in state_of]
        if text:
            edges.append((state, first, state_of[syntax.marker[0]]))
        expected = [pair for char in following for pair in _one(char)]
        edges.append((state, complement(normalised([*first, *expected])), 0))
    states = len(begun)
    if not syntax.bare:
        return Graph(states, tuple(edges), frozenset(range(states)))
    # a start of its own: only blank space so far
    shifted = [(source + 1, ranges, target + 1) for source, ranges, target in edges]
    bare = [pair for char in syntax.bare for pair in _one(char)]
    others = complement(normalised([*_SPACE, *first, *bare]))
    start = [(0, _SPACE, 0), (0, first, 1 + state_of[syntax.marker[0]]), (0, others, 1)]
    return Graph(states + 1, (*start, *shifted), frozenset(range(states + 1)))


def _one(char: str) -> Ranges:
    return ((ord(char), ord(char)),)
