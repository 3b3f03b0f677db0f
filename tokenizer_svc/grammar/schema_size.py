"""How large an automaton will be, before it is made. Knows nothing of schemas.

A tree that shares its parts can stand for an automaton of any size, and to find out by making it costs up to half a
second. The estimate counts what is written out: the characters of literals, and nine states for a character that may
be any of Unicode (itself, an escape, and the bytes inside of it); what minimising saves is not foreseen, but for lists
of texts, which share much.
"""

from __future__ import annotations

from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.nodes import Chars, Concat, Graph, Label, Literal, Network, Node, Repeat, Union

_OVERESTIMATE = 1.25  # of states, at most, for objects with many properties
_ASCII = 0x80
_WIDE = 8  # states inside of a code point that may be any


def may_fit(node: Node, limits: GrammarLimits) -> bool:
    """Whether it is worth while to try."""
    return estimate(node) <= limits.dfa_states * _OVERESTIMATE


def estimate(node: Node) -> int:
    """About how many states over bytes there will be."""
    return _Estimates().of(node)


class _Estimates:
    def __init__(self) -> None:
        self._known: dict[int, int] = {}  # by identity, which outlives this: all are parts of one tree

    def of(self, node: Node) -> int:
        found = self._known.get(id(node))
        if found is None:
            found = self._known[id(node)] = self._estimate(node)
        return found

    def _estimate(self, node: Node) -> int:
        match node:
            case Literal(text):
                return len(text)
            case Chars(ranges):
                return _WIDE if ranges and ranges[-1][1] >= _ASCII else 1
            case Concat(parts):
                return sum(map(self.of, parts))
            case Union(options):
                texts = sum(len(option.text) for option in options if isinstance(option, Literal))
                return texts // 3 + sum(self.of(option) for option in options if not isinstance(option, Literal))
            case Repeat(body, least, most):
                return self.of(body) * (max(1, least) if most is None else most)
            case Graph(_, edges, _):
                return sum(_WIDE if ranges[-1][1] >= _ASCII else 1 for _, ranges, _ in edges if ranges)
            case Network(_, edges, _):
                return sum(self.of(over) for _, over, _ in edges)
            case Label(body, _):
                return self.of(body)
