"""Two languages side by side, calls of tools and a text without any, told apart by how they begin.

No text may begin as calls do, up to the arguments of the first: then whoever reads an answer knows by its beginning
what it is, whatever stands in it later. Knows nothing of what calls and texts look like otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from shared.grammar import DEAD, START, Dfa, Guidance, tables
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.packing import packed, unpacked

_SHARED = 2
"""Characters that the beginnings of two grammars may not share. llguidance's lexer goes for the longer lexeme and does
not turn back: it would take the first characters of a text for those of a call, and not let it become anything else.
"""


def either_automaton(calls: Dfa, text: Dfa, openings: Sequence[str], limits: GrammarLimits) -> Dfa | None:
    """An automaton for both. None where it is too large. Raises GrammarError where a text may begin as calls do.

    A state is one of both while what was read may become either, which is never longer than an opening, then one of
    the language that is left.
    """
    alone = tables(text)
    for opening in openings:
        if alone.walk(opening.encode()) != DEAD:
            raise _alike(opening)
    of_calls, of_text = unpacked(calls), unpacked(text)
    both = {(START, START): START}
    moves: list[tuple[int, int, int]] = []  # from one pair over a byte to another
    waiting = [(START, START)]
    for first, second in waiting:
        for byte in np.flatnonzero((of_calls[first] != DEAD) & (of_text[second] != DEAD)).tolist():
            to = (int(of_calls[first, byte]), int(of_text[second, byte]))
            if to not in both:
                both[to] = START + len(both)
                waiting.append(to)
            moves.append((both[first, second], byte, both[to]))
    at_calls = START + len(both)
    at_text = at_calls + len(of_calls) - START
    size = at_text + len(of_text) - START
    if size > min(limits.dfa_states, np.iinfo(np.uint16).max):
        return None
    shifted_calls = np.where(of_calls == DEAD, DEAD, of_calls + at_calls - START)
    shifted_text = np.where(of_text == DEAD, DEAD, of_text + at_text - START)
    table = np.zeros((size, 256), np.int64)
    table[at_calls:at_text], table[at_text:] = shifted_calls[START:], shifted_text[START:]
    ends_calls, ends_text = (np.frombuffer(dfa.accepting, np.uint8) for dfa in (calls, text))
    accepting = np.zeros(size, np.uint8)
    accepting[at_calls:at_text], accepting[at_text:] = ends_calls[START:], ends_text[START:]
    for (first, second), state in both.items():
        table[state] = np.maximum(shifted_calls[first], shifted_text[second])  # of two that live the pair is set below
        accepting[state] = ends_calls[first] | ends_text[second]
    for state, byte, to in moves:
        table[state, byte] = to
    return packed(table, accepting)


def either_guidance(calls: Guidance, text: Guidance, openings: Sequence[str]) -> Guidance:
    """A grammar for both. Raises GrammarError where a text may begin as calls do, if only by a few characters."""
    from tokenizer_svc.grammar.lark import admits, check  # llguidance: 5 MB that not every child needs

    for beginning in dict.fromkeys(opening[:_SHARED] for opening in openings):
        if admits(text.grammar, beginning):
            raise _alike(beginning)
    named = [*_named(calls, "calls"), *_named(text, "text")]
    grammar = msgspec.json.encode({"grammars": [{"lark_grammar": "start: @calls | @text"}, *named]}).decode()
    check(grammar)
    return Guidance(grammar)


def _named(guidance: Guidance, name: str) -> list[dict[str, str]]:
    """Its grammars, the first of which gets a name."""
    first, *others = msgspec.json.decode(guidance.grammar, type=dict[str, list[dict[str, str]]])["grammars"]
    return [{**first, "name": name}, *others]


def _alike(beginning: str) -> GrammarError:
    return GrammarError(
        f"an answer of this form may begin with {beginning!r}, as a call of a tool does, "
        'and could not be told from one: make the form narrower, or set tool_choice to "none" or "required"'
    )
