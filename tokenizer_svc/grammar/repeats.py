"""Repetitions in the form that needs the fewest states and the fewest ways.

A bounded repetition of something that may be empty would let every copy slide to all later ones, a quadratic number
of ways; without the empty text it is the same language in a linear number.
"""

from __future__ import annotations

from tokenizer_svc.grammar.nodes import (
    EMPTY,
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
_FEW = 4  # copies that may slide: without the empty text some parts of the body are there twice


def simplified(node: Repeat) -> Repeat:
    """The same language, over a body that is never empty where there are many copies of it.

    Nested repetitions become one where every number of times in between can be reached.
    """
    body, least, most = node.body, node.least, node.most
    if most == 0:
        return Repeat(_NOTHING, 0, 0)
    if (least, most) == (0, 1):
        return node
    if nullable(body):
        rest, least = nonempty(body), 0
        if rest == _NOTHING:
            return Repeat(_NOTHING, 0, 0)
        if most is not None and most > _FEW:
            body = rest
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
            return _nullable_network(node)
        case Label(body, _):
            return nullable(body)


def nonempty(node: Node) -> Node:
    """All texts of ``node`` but the empty one; the empty set of characters where that leaves none."""
    if not nullable(node):
        return node
    match node:
        case Literal() | Chars():
            return _NOTHING
        case Concat(parts):
            return _nonempty_concat(parts)
        case Union(options):
            return _any_of([nonempty(option) for option in options])
        case Repeat(body, _, most):
            rest = nonempty(body)
            return _NOTHING if most == 0 or rest == _NOTHING else Repeat(rest, 1, most)
        case Graph():
            return _nonempty_graph(node)
        case Network():
            return _nonempty_network(node)
        case Label(body, index):
            rest = nonempty(body)
            return rest if rest == _NOTHING else Label(rest, index)


def _nonempty_concat(parts: tuple[Node, ...]) -> Node:
    """Halves, because AB without the empty text is A without it and B, or B without it: n log n parts in all."""
    if not parts:
        return _NOTHING
    if len(parts) == 1:
        return nonempty(parts[0])
    middle = len(parts) // 2
    head, tail = parts[:middle], parts[middle:]
    first = _nonempty_concat(head)
    return _any_of([first if first == _NOTHING else concat(first, *tail), _nonempty_concat(tail)])


def _any_of(options: list[Node]) -> Node:
    return union([option for option in options if option != _NOTHING] or [_NOTHING])


def _nonempty_graph(graph: Graph) -> Graph:
    """A new start that does not accept, with the edges of the old one, which moves to the end."""
    old = graph.num_states

    def moved(state: int) -> int:
        return state or old

    edges = [(moved(source), ranges, moved(to)) for source, ranges, to in graph.edges]
    edges += [(0, ranges, moved(to)) for source, ranges, to in graph.edges if source == 0]
    return Graph(old + 1, tuple(edges), frozenset(map(moved, graph.accepting)))


def _nullable_network(network: Network) -> bool:
    reached = [0]
    for state in reached:  # grows while it is read
        steps = (to for source, over, to in network.edges if source == state and to not in reached and nullable(over))
        reached += dict.fromkeys(steps)
    return not network.accepting.isdisjoint(reached)


def _nonempty_network(network: Network) -> Network:
    """Twice the states: those from ``num_states`` on are reached when something has been read."""
    count = network.num_states
    edges: list[tuple[int, Node, int]] = []
    for source, over, to in network.edges:
        edges.append((source, nonempty(over), to + count))
        edges.append((source + count, over, to + count))
        if nullable(over):
            edges.append((source, EMPTY, to))
    return Network(2 * count, tuple(edges), frozenset(state + count for state in network.accepting))
