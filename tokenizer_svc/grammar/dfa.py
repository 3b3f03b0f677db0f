"""Trees compiled to automata over UTF-8 bytes, in the form that travels to the workers.

The way: a nondeterministic automaton over code points, a deterministic one, the smallest one, and only then bytes,
because on code points all three are several times smaller. States inside of a code point are shared by what follows
them, so the result is the smallest automaton over bytes as well. Knows nothing of patterns, schemas or tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.grammar import START, Dfa
from tokenizer_svc.grammar.limits import LIMITS, GrammarLimits
from tokenizer_svc.grammar.minimise import minimise
from tokenizer_svc.grammar.nfa import build
from tokenizer_svc.grammar.nodes import Node
from tokenizer_svc.grammar.subset import Automaton, Moves, determinise, too_many
from tokenizer_svc.grammar.utf8 import Shape, Span, shape

_BYTES = 256
_ASCII = 128


class Labelled(NamedTuple):
    """An automaton and, for each of its states, the generated segment it is in."""

    dfa: Dfa
    labels: NDArray[np.int16]  # [S]; -1 outside of segments


def compile_dfa(node: Node, limits: GrammarLimits = LIMITS) -> Dfa:
    """The smallest automaton for the texts of ``node``; labels are ignored.

    Raises GrammarError when there is no such text, or when a bound on states is exceeded.
    """
    return _Spelling(minimise(determinise(build(node, limits), limits, labelled=False)), limits).dfa()


def compile_labelled(node: Node, limits: GrammarLimits = LIMITS) -> Labelled:
    """The smallest automaton that keeps states of different segments apart. Raises as :func:`compile_dfa`.

    A state has the label of a segment if some text may go on inside of that segment, of the first such segment where
    there are several; so the end of a segment of open length is part of it until the text that follows has begun.
    """
    spelling = _Spelling(minimise(determinise(build(node, limits), limits, labelled=True)), limits)
    return Labelled(spelling.dfa(), np.array(spelling.labels, np.int16))


class _Spelling:
    """An automaton over code points, spelt in bytes. State s of it is state ``s + START``."""

    def __init__(self, automaton: Automaton, limits: GrammarLimits) -> None:
        self._limits = limits
        self._alphabet = automaton.alphabet
        self._accepting = automaton.accepting
        self.labels = [-1, *automaton.labels]
        self._inner: dict[tuple[object, ...], int] = {}
        self._shapes: dict[tuple[int, ...], Shape] = {}
        self._leads: dict[tuple[object, ...], list[Span]] = {}
        self._beyond = automaton.alphabet.from_code_point(_ASCII)
        # Transitions by the bytes they are on, which are few different sets: (from, to) each.
        self._on_spans: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self._on_masks: dict[int, list[tuple[int, int]]] = {}
        for state, moves in enumerate(automaton.moves):
            self._spell(state + START, automaton.labels[state], moves)

    def dfa(self) -> Dfa:
        table = np.zeros((_BYTES, len(self.labels)), np.uint16)
        for (low, high), pairs in self._on_spans.items():
            sources, targets = zip(*pairs, strict=True)
            table[low : high + 1, sources] = targets
        for mask, pairs in self._on_masks.items():
            sources, targets = zip(*pairs, strict=True)
            ascii_bytes = [b for low, high in self._alphabet.ranges(mask) for b in range(low, min(high + 1, _ASCII))]
            table[np.ix_(ascii_bytes, sources)] = targets
        accepting = np.zeros(len(self.labels), np.uint8)
        accepting[START : START + len(self._accepting)] = self._accepting
        columns: dict[bytes, int] = {}
        classes = bytes(columns.setdefault(row.tobytes(), len(columns)) for row in table)
        chosen = np.frombuffer(b"".join(columns), np.uint16).reshape(len(columns), -1)
        transitions = np.ascontiguousarray(chosen.T).astype("<u2", copy=False)
        return Dfa(classes, len(columns), transitions.tobytes(), accepting.tobytes())

    def _spell(self, state: int, label: int, moves: Moves) -> None:
        beyond: list[tuple[int, int]] = []
        for mask, to in moves:
            self._on_masks.setdefault(mask, []).append((state, to + START))
            if mask & self._beyond:
                beyond.append((mask & self._beyond, to + START))
        if beyond:
            beyond.sort()
            key = (label, *beyond)
            leads = self._leads.get(key)
            if leads is None:
                leads = self._leads[key] = self._inside(label, beyond)
            self._connect(state, leads)

    def _connect(self, state: int, spans: list[Span]) -> None:
        for low, high, to in spans:
            self._on_spans.setdefault((low, high), []).append((state, to))

    def _inside(self, label: int, beyond: list[tuple[int, int]]) -> list[Span]:
        """The lead bytes of some sets of letters, the states behind them made where they are new."""
        masks = tuple(mask for mask, _ in beyond)
        found = self._shapes.get(masks)
        if found is None:
            found = self._shapes[masks] = shape([self._alphabet.ranges(mask) for mask in masks])
        states: list[int] = []

        def placed(spans: tuple[Span, ...] | list[Span]) -> list[Span]:
            return [(low, high, states[to] if to >= 0 else beyond[~to][1]) for low, high, to in spans]

        for node in found.nodes:
            states += [self._state(label, placed(node))]
        return placed(found.leads)

    def _state(self, label: int, spans: list[Span]) -> int:
        key = (label, *spans)
        state = self._inner.get(key)
        if state is None:
            state = self._inner[key] = len(self.labels)
            if state > min(self._limits.dfa_states, np.iinfo(np.uint16).max):
                raise too_many(self._limits)
            self.labels.append(label)
            self._connect(state, spans)
        return state
