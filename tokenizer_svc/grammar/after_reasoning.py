"""A grammar that begins only after a model's reasoning: free text up to the closing mark, then the grammar.

Where the model's prompt has opened the reasoning, the text must close it. Where the model would open it itself it may
do so, or begin with the grammar at once. After the closing mark up to two line breaks may stand, as models write them.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np

from shared.grammar import DEAD, START, Dfa, Guidance
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.packing import packed, unpacked
from tokenizer_svc.grammar.seeking import seeking
from tokenizer_svc.grammar.spec import Reasoned
from tokenizer_svc.grammar.subset import too_many

_BREAKS = 2  # after the closing mark
_NEWLINE = ord("\n")


def after_reasoning(compiled: Dfa | Guidance, reasoned: Reasoned, limits: GrammarLimits) -> Dfa | Guidance:
    """``compiled``, to be obeyed after reasoning. Raises GrammarError."""
    if isinstance(compiled, Guidance):
        return _guidance(compiled, reasoned)
    if compiled.segments is not None:
        raise GrammarError("is a template, which cannot follow reasoning")
    return _automaton(compiled, reasoned, limits)


def _automaton(answer: Dfa, reasoned: Reasoned, limits: GrammarLimits) -> Dfa:
    """State START; the states of an opening mark; those of reasoning; line breaks; those of the answer."""
    opener, thinking, answering = reasoned.opener.encode(), seeking([reasoned.closer.encode()]), unpacked(answer)
    at_thought = START + len(opener)  # before it the states that have read less than all of the opening mark
    at_breaks = at_thought + len(thinking.found)
    at_answer = at_breaks + _BREAKS
    shift = at_answer - START  # of its states
    if (size := shift + len(answering)) > min(limits.dfa_states, np.iinfo(np.uint16).max):
        raise too_many(limits)
    table = np.zeros((size, 256), np.int64)
    accepting = np.zeros(size, np.uint8)
    table[at_thought:at_breaks] = thinking.transitions + at_thought
    table[at_answer:] = np.where(answering == DEAD, DEAD, answering + shift)[START:]
    accepting[at_answer:] = np.frombuffer(answer.accepting, np.uint8)[START:]

    gaps = range(at_breaks - 1, at_answer)  # the closing mark is read, then a line break, then two
    for place, state in enumerate(gaps):
        table[state] = table[at_answer]
        accepting[state] = accepting[at_answer]
        if place < _BREAKS:
            table[state, _NEWLINE] = gaps[place + 1]

    state = at_answer
    for place, byte in enumerate(opener, start=START):
        table[place] = table[state]
        accepting[place] = accepting[state]
        state = table[place, byte]
        table[place, byte] = place + 1
    return packed(table, accepting)


def _guidance(answer: Guidance, reasoned: Reasoned) -> Guidance:
    from tokenizer_svc.grammar.lark import check  # llguidance: 5 MB that not every child needs

    grammars: list[dict[str, Any]] = msgspec.json.decode(answer.grammar)["grammars"]
    first, *others = grammars
    closer = reasoned.closer.replace("/", "\\/").replace("[", "\\[").replace("]", "\\]")
    thought = f"thought {'BREAK? ' * _BREAKS}@answer"
    start = f"@answer | {json.dumps(reasoned.opener)} {thought}" if reasoned.opener else thought
    whole = f'start: {start}\nthought[lazy]: /(?s:.*){closer}/\nBREAK: "\\n"'
    named = [{"lark_grammar": whole}, {**first, "name": "answer"}, *others]
    grammar = msgspec.json.encode({"grammars": named}).decode()
    check(grammar)
    return Guidance(grammar)
