"""Repetitions in the form that needs the fewest states and the fewest ways.

A bounded repetition of something that may be empty would let every copy slide to all later ones, a quadratic number
of ways; without the empty text it is the same language in a linear number.
"""

from __future__ import annotations

from tokenizer_svc.grammar.nodes import (
    Chars,
    Concat,
    Graph,
    Label,
    Literal,
    Network,
    Node,
    Repeat,
    Union,
    concat,
    union,
)

_NOTHING = Chars(())


def simplified(node: Repeat) -> Repeat:
    """The same language, over a body that is never empty (unless it is matched at most once anyway).

    Nested repetitions become one where every number of times in between can be reached.
    """
    body, least, most = node.body, node.least, node.most
    if most == 0:
        return Repeat(_NOTHING, 0, 0)
    if (least, most) == (0, 1):
        return node
    if nullable(body):
        body, least = nonempty(body), 0
    while isinstance(body, Repeat) and body.least == 1:
        most = None if most is None or body.most is None else most * body.most
        body = body.body
    return Repeat(body, least, most)


def nullable(node: Node) -> bool:
    """Whether the empty text matches."""
    match node:
        case Literal(text):
            return not text
        case Chars():
            return False
        case Concat(parts):
            return all(map(nullable, parts))
        case Union(options):
            return any(map(nullable, options))
        case Repeat(body, least, _):
            return least == 0 or nullable(body)
        case Graph():
            return 0 in node.accepting
        case Network():
            return not node.accepting.isdisjoint(_reached_silently(node))
        case Label(body, _):
            return nullable(body)


def nonempty(node: Node) -> Node:
    """All texts of ``node`` but the empty one."""
    if not nullable(node):
        return node
    match node:
        case Literal() | Chars():
            return _NOTHING
        case Concat(parts):
            return _nonempty_concat(parts)
        case Union(options):
            return union([nonempty(option) for option in options])
        case Repeat(body, _, most):
            return _NOTHING if most == 0 else Repeat(nonempty(body), 1, most)
        case Graph():
            return _nonempty_graph(node)
        case Network():
            return _nonempty_network(node)
        case Label(body, index):
            return Label(nonempty(body), index)


def _nonempty_concat(parts: tuple[Node, ...]) -> Node:
    """Halves, because AB without the empty text is A without it and B, or B without it: n log n parts in all."""
    if not parts:
        return _NOTHING
    if len(parts) == 1:
        return nonempty(parts[0])
    middle = len(parts) // 2
    head, tail = parts[:middle], parts[middle:]
    return union([concat(_nonempty_concat(head), *tail), _nonempty_concat(tail)])


def _nonempty_graph(graph: Graph) -> Graph:
    """A new start that does not accept, with the edges of the old one, which moves to the end."""
    old = graph.num_states

    def moved(state: int) -> int:
        return state or old

    edges = [(moved(source), ranges, moved(to)) for source, ranges, to in graph.edges]
    edges += [(0, ranges, moved(to)) for source, ranges, to in graph.edges if source == 0]
    return Graph(old + 1, tuple(edges), frozenset(map(moved, graph.accepting)))


def _reached_silently(network: Network) -> set[int]:
    """The states that the empty text leads to."""
    silent = [(source, to) for source, over, to in network.edges if nullable(over)]
    reached, waiting = {0}, [0]
    while waiting:
        state = waiting.pop()
        for source, to in silent:
            if source == state and to not in reached:
                reached.add(to)
                waiting.append(to)
    return reached


def _nonempty_network(network: Network) -> Network:
    """Two of it: in the first nothing was read yet, the second accepts."""
    size = network.num_states
    edges = [(size + source, over, size + to) for source, over, to in network.edges]
    for source, over, to in network.edges:
        if nullable(over):
            edges.append((source, Literal(""), to))
        edges.append((source, nonempty(over), size + to))
    return Network(2 * size, tuple(edges), frozenset(size + state for state in network.accepting))
