"""Trees as nondeterministic automata over code points.

After Thompson (1968), with literals as plain chains and lists of literals as shared graphs. Memory is bounded: the
construction stops at the first state over the limit. States from which acceptance cannot be reached are cut off.
"""

from __future__ import annotations

from typing import NamedTuple

from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.nodes import Chars, Concat, Graph, Label, Literal, Network, Node, Ranges, Repeat, Union
from tokenizer_svc.grammar.repeats import simplified
from tokenizer_svc.grammar.words import Words, share

UNLABELLED = -1
_FAR = -1  # of a state that cannot reach acceptance


class Nfa(NamedTuple):
    """Columns per state, and the sets of code points on the edges. Edges only lead to states that can accept."""

    start: int
    final: int
    edges: list[list[tuple[int, int]]]  # (index of a set, to)
    empty: dict[int, list[int]]  # to, without reading anything
    distances: list[int]  # the least number of code points to acceptance
    labels: list[int]  # of the template's segment that the edges are part of
    sets: list[Ranges]


def build(node: Node, limits: GrammarLimits) -> Nfa:
    """Raises GrammarError when nothing at all is matched, or when there are more states than allowed."""
    builder = _Builder(limits.nfa_states)
    start = builder.state()
    final = builder.state()
    builder.empty.setdefault(builder.build(node, start), []).append(final)
    distances = _distances(builder.edges, builder.empty, final)
    if distances[start] == _FAR:
        raise GrammarError("this matches no text at all; look for an empty class such as [^\\s\\S]")
    for edges in builder.edges:
        if any(distances[to] == _FAR for _, to in edges):
            edges[:] = [edge for edge in edges if distances[edge[1]] != _FAR]
    return Nfa(start, final, builder.edges, builder.empty, distances, builder.labels, list(builder.sets))


def _distances(edges: list[list[tuple[int, int]]], empty: dict[int, list[int]], final: int) -> list[int]:
    readers: list[list[int]] = [[] for _ in edges]
    for state, moves in enumerate(edges):
        for _, to in moves:
            readers[to].append(state)
    sliders: dict[int, list[int]] = {}
    for state, targets in empty.items():
        for to in targets:
            sliders.setdefault(to, []).append(state)
    distances = [_FAR] * len(edges)
    distances[final] = 0
    frontier, distance = [final], 0
    while frontier:
        for state in frontier:  # grows while it is read
            for source in sliders.get(state, ()):
                if distances[source] == _FAR:
                    distances[source] = distance
                    frontier.append(source)
        distance += 1
        further: list[int] = []
        for state in frontier:
            for source in readers[state]:
                if distances[source] == _FAR:
                    distances[source] = distance
                    further.append(source)
        frontier = further
    return distances


class _Builder:
    """Every part is built between a state that is there and one that it returns.

    A part may add edges out of its first state and expects others to do so too, so nothing but a loop meant for all
    who come by may lead back into it. The state it returns may have edges, of a loop at the part's end.
    """

    def __init__(self, limit: int) -> None:
        self.edges: list[list[tuple[int, int]]] = []
        self.empty: dict[int, list[int]] = {}
        self.labels: list[int] = []
        self.sets: dict[Ranges, int] = {}
        self._limit = limit
        self._label = UNLABELLED
        self._letters: dict[str, int] = {}
        self._words: dict[int, Words] = {}  # by identity of the tree, which outlives this
        self._repeats: dict[int, Repeat] = {}  # by identity as well

    def state(self) -> int:
        index = len(self.edges)
        if index >= self._limit:
            raise GrammarError(
                f"this needs more than {self._limit} states before it is made deterministic (nfa_states); "
                "lower the bounds of its repetitions, above all of nested ones, or leave them open"
            )
        self.edges.append([])
        self.labels.append(self._label)
        return index

    def build(self, node: Node, start: int) -> int:
        match node:
            case Literal(text):
                return self._literal(text, start)
            case Chars(ranges):
                end = self.state()
                if ranges:
                    self.edges[start].append((self._set(ranges), end))
                return end
            case Concat(parts):
                for part in parts:
                    start = self.build(part, start)
                return start
            case Union():
                return self._union(node, start)
            case Repeat():
                return self._repeat(node, start)
            case Graph():
                return self._graph(node, start)
            case Network():
                return self._network(node, start)
            case Label(body, index):
                return self._labelled(body, index, start)

    def _slide(self, start: int, to: int) -> None:
        self.empty.setdefault(start, []).append(to)

    def _set(self, ranges: Ranges) -> int:
        return self.sets.setdefault(ranges, len(self.sets))

    def _letter(self, char: str) -> int:
        found = self._letters.get(char)
        if found is None:
            found = self._letters[char] = self._set(((ord(char), ord(char)),))
        return found

    def _literal(self, text: str, start: int) -> int:
        for char in text:
            end = self.state()
            self.edges[start].append((self._letter(char), end))
            start = end
        return start

    def _union(self, node: Union, start: int) -> int:
        texts = [option.text for option in node.options if isinstance(option, Literal)]
        rest = [option for option in node.options if not isinstance(option, Literal)]
        join = self.state()
        if texts:
            words = self._words.get(id(node))
            if words is None:
                words = self._words[id(node)] = share(texts)
            self._add_words(words, start, join)
        for option in rest:
            self._slide(self.build(option, start), join)
        return join

    def _add_words(self, words: Words, start: int, join: int) -> None:
        states: list[int] = []
        for edges, final in zip(words.edges[:-1], words.final[:-1], strict=True):
            state = self.state() if edges else join
            self.edges[state].extend((self._letter(char), states[to]) for char, to in edges)
            if final and edges:
                self._slide(state, join)
            states.append(state)
        self.edges[start].extend((self._letter(char), states[to]) for char, to in words.edges[-1])
        if words.final[-1]:
            self._slide(start, join)

    def _repeat(self, node: Repeat, start: int) -> int:
        found = self._repeats.get(id(node))
        if found is None:
            found = self._repeats[id(node)] = simplified(node)
        body, least, most = found.body, found.least, found.most
        for _ in range(least if most is not None else least - 1):
            start = self.build(body, start)
        if most is None:
            loop = self.state()
            self._slide(start, loop)
            end = self.build(body, loop)
            self._slide(end, loop)
            return end if least else loop
        if most == least:
            return start
        join = self.state()
        for _ in range(most - least):
            self._slide(start, join)
            start = self.build(body, start)
        self._slide(start, join)
        return join

    def _graph(self, graph: Graph, start: int) -> int:
        states = [self.state() for _ in range(graph.num_states)]
        join = self.state()
        self._slide(start, states[0])
        for source, ranges, to in graph.edges:
            if ranges:
                self.edges[states[source]].append((self._set(ranges), states[to]))
        for state in graph.accepting:
            self._slide(states[state], join)
        return join

    def _network(self, network: Network, start: int) -> int:
        states = [self.state() for _ in range(network.num_states)]
        join = self.state()
        self._slide(start, states[0])
        for source, over, to in network.edges:
            self._slide(self.build(over, states[source]), states[to])
        for state in network.accepting:
            self._slide(states[state], join)
        return join

    def _labelled(self, body: Node, index: int, start: int) -> int:
        outside = self._label
        self._label = index
        first = self.state()
        self._slide(start, first)
        last = self.build(body, first)
        self._label = outside
        end = self.state()
        self._slide(last, end)
        return end
