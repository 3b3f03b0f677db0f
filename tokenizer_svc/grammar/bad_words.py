"""Any text that contains none of some words, as an automaton over bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shared.grammar import DEAD, START, Dfa
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.packing import packed
from tokenizer_svc.grammar.seeking import seeking
from tokenizer_svc.grammar.subset import too_many


def without(words: Sequence[str], limits: GrammarLimits) -> Dfa:
    """The automaton: every state that can be reached accepts. Raises GrammarError."""
    transitions, found = seeking([word.encode() for word in words])
    if len(found) + START > min(limits.dfa_states, np.iinfo(np.uint16).max):
        raise too_many(limits)
    table = np.zeros((START + len(found), 256), np.int64)
    table[START:] = np.where(found[transitions], DEAD, transitions + START)
    alive = np.flatnonzero(~found)  # a word's end is nowhere, and so is what lies beyond it
    kept = np.concatenate([[DEAD], alive + START])
    places = np.zeros(len(table), np.int64)
    places[kept] = np.arange(len(kept))
    accepting = np.ones(len(kept), np.uint8)
    accepting[DEAD] = 0
    return packed(places[table[kept]], accepting)
