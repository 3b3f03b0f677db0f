"""Automata on the device: the table leads to the right masks, and whoever is not in use makes room."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.grammar import mask_pool, resident
from gpu_worker.grammar.automaton import Automaton
from gpu_worker.grammar.mask_pool import MaskPool
from gpu_worker.grammar.resident import Ranges, Residents
from gpu_worker.kernels.mask_reference import PlainMaskKernels
from shared.grammar import START
from tests.gpu_worker.grammar.test_mask_pool import CPU, VOCABULARY, allowed, legal
from tokenizer_svc.grammar.dfa import compile_dfa
from tokenizer_svc.grammar.regex import parse

PATTERNS = ("[a-d]{1,9}z*", "(ab|abc|zz){2}", "q[a-z]*", "[x-z]{3}a?", "a{1,6}")


def check(masks: MaskPool, residents: Residents, automaton: Automaton, ends: tuple[int, ...], base: int) -> None:
    for state in range(1, automaton.num_states):
        row = int(residents.table[base + state])
        assert allowed(masks, row) == legal(automaton, state, ends if automaton.is_accepting(state) else ())


def test_masks_stay_right_while_automata_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_pool, "_ROW_BYTES_IN_ALL", 0)  # as few rows as there may be
    monkeypatch.setattr(resident, "_TABLE_ENTRIES", 60)
    monkeypatch.setattr(resident, "_TRANSITIONS", 400)
    monkeypatch.setattr(resident, "_AUTOMATA", 3)
    masks = MaskPool(PlainMaskKernels(VOCABULARY, CPU), VOCABULARY.size, 8, CPU)
    residents = Residents(masks, CPU)
    addresses = [tensor.data_ptr() for tensor in (*residents.arrays, residents.table)]
    automata = [Automaton(compile_dfa(parse(pattern))) for pattern in PATTERNS]
    draw = random.Random(2)
    entered = 0
    for _ in range(120):
        using = [draw.choice(automata)] if draw.random() < 0.5 else []
        automaton, ends = draw.choice(automata), draw.choice([(), (0,)])
        masks.of_state(draw.choice(automata), START, ())  # others want rows, too
        place = residents.enter(automaton, ends, lambda: using)  # noqa: B023 (called at once)
        if place is None:
            continue
        entered += 1
        check(masks, residents, automaton, ends, place.ending)
        check(masks, residents, automaton, (), place.going_on)
        tokens = torch.arange(1, VOCABULARY.size)
        states = torch.full_like(tokens, START, dtype=torch.int32)
        after = masks.kernels.advance(states, tokens, residents.arrays, torch.full_like(states, place.automaton))
        assert after.tolist() == [automaton.walk(VOCABULARY.spelling[token]) for token in tokens.tolist()]
    assert entered > 60
    assert addresses == [tensor.data_ptr() for tensor in (*residents.arrays, residents.table)]


def test_an_automaton_with_too_many_states_stays_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "_MOST_STATES", 5)
    masks = MaskPool(PlainMaskKernels(VOCABULARY, CPU), VOCABULARY.size, 8, CPU)
    residents = Residents(masks, CPU)
    assert residents.enter(Automaton(compile_dfa(parse("a{9}"))), (), list) is None
    assert residents.enter(Automaton(compile_dfa(parse("a{2}"))), (), list) is not None


def test_an_automaton_in_use_is_not_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "_AUTOMATA", 1)
    residents = Residents(MaskPool(PlainMaskKernels(VOCABULARY, CPU), VOCABULARY.size, 8, CPU), CPU)
    first, second = (Automaton(compile_dfa(parse(pattern))) for pattern in ("a{2}", "b{2}"))
    place = residents.enter(first, (), list)
    assert residents.enter(second, (), lambda: [first]) is None
    assert residents.enter(first, (), list) == place
    assert residents.enter(second, (), list) is not None


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 12)), max_size=60))
def test_ranges_never_overlap_and_join_again(script: list[tuple[bool, int]]) -> None:
    ranges = Ranges(40)
    taken: dict[int, int] = {}
    for takes, size in script:
        if takes:
            begin = ranges.take(size)
            if begin is None:
                continue
            assert begin + size <= 40
            assert all(begin + size <= other or other + length <= begin for other, length in taken.items())
            taken[begin] = size
        elif taken:
            begin = min(taken, key=lambda start: (start * size) % 7)
            del taken[begin]
            ranges.give(begin)
    for begin in taken:
        ranges.give(begin)
    assert ranges.take(40) == 0
