"""Mask kernels, plain and compiled, against a walk of every token by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpu_worker.grammar.vocabulary import Vocabulary, load_vocabulary, make_vocabulary
from gpu_worker.kernels import compiling
from gpu_worker.kernels.automata import Automata
from gpu_worker.kernels.mask_kernels_cpu import CpuMaskKernels
from gpu_worker.kernels.mask_reference import PlainMaskKernels
from gpu_worker.kernels.masks import MaskKernels
from shared.config import DEFAULT_MODEL, Settings
from shared.grammar import Tables, tables
from shared.model_files import locate
from shared.tokenizer import Tokenizer
from tests.gpu_worker.kernels.mask_cases import (
    CPU,
    Case,
    bits_of,
    cases,
    check_advance,
    check_apply,
    check_build,
    random_tables,
)
from tokenizer_svc.grammar.dfa import compile_dfa
from tokenizer_svc.grammar.regex import parse

Make = Callable[[Vocabulary], MaskKernels]
KINDS: dict[str, Make] = {"plain": lambda vocabulary: PlainMaskKernels(vocabulary, CPU), "compiled": CpuMaskKernels}


checked = settings(
    max_examples=30, derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.fixture(scope="module")
def smollm2() -> Vocabulary:
    cache_path = Settings().cache_path
    tokenizer = Tokenizer.load(locate(DEFAULT_MODEL, cache_path), cache_path)
    vocabulary = load_vocabulary(tokenizer, tokenizer.vocab_size, cache_path)
    assert vocabulary is not None
    return vocabulary


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Make:
    return KINDS[request.param]


@pytest.mark.parametrize("kind", KINDS)
@checked
@given(case=cases())
def test_built_rows_allow_what_each_token_alone_may(kind: str, case: Case) -> None:
    check_build(KINDS[kind](case.vocabulary), case)


@pytest.mark.parametrize("kind", KINDS)
@checked
@given(case=cases())
def test_applied_rows_leave_what_is_allowed(kind: str, case: Case) -> None:
    check_apply(KINDS[kind](case.vocabulary), case)


@pytest.mark.parametrize("kind", KINDS)
@checked
@given(case=cases())
def test_states_advance_by_their_own_automata(kind: str, case: Case) -> None:
    check_advance(KINDS[kind](case.vocabulary), case)


def digits() -> Tables:
    """State 1 takes digits for ever."""
    classes = np.zeros(256, np.uint8)
    classes[ord("0") : ord("9") + 1] = 1
    return Tables(classes, np.array([[0, 0], [0, 1]], np.uint16), np.array([False, True]))


def test_all_tokens_of_one_spelling_are_allowed_together(make: Make) -> None:
    vocabulary = make_vocabulary([b"7", b"a", b"7", b"", b"77", b"7", b"a"], [3])
    pool = torch.zeros(1, 1, dtype=torch.int32)
    make(vocabulary).build(pool, [0], [1], digits())
    assert bits_of(pool, 7)[0].nonzero()[0].tolist() == [0, 2, 4, 5]


def test_a_vocabulary_without_text_allows_nothing(make: Make) -> None:
    vocabulary = make_vocabulary([b"", b""], [0], 40)
    pool = torch.full((1, 2), -1, dtype=torch.int32)
    make(vocabulary).build(pool, [0], [1], digits())
    assert not pool.any()


def test_nothing_is_asked(make: Make) -> None:
    kernels = make(make_vocabulary([b"7"], [0]))
    none = torch.empty(0, dtype=torch.int32)
    kernels.apply(torch.empty(0, 1), torch.zeros(1, 1, dtype=torch.int32), none)
    kernels.build(torch.zeros(1, 1, dtype=torch.int32), [], [], digits())
    assert kernels.advance(none, torch.empty(0, dtype=torch.int64), Automata(CPU).arrays, none).numel() == 0


@pytest.mark.parametrize(
    "pattern", [r".*", r'"[^"\\\x00-\x1f]{0,9}"', r"-?(0|[1-9][0-9]*)(\.[0-9]+)?", r"(é|[😀-😅])+ fin"]
)
def test_a_real_vocabulary_and_real_automata(smollm2: Vocabulary, pattern: str) -> None:
    automaton = tables(compile_dfa(parse(pattern)))
    states = list(range(len(automaton.transitions)))[:8]
    pools = torch.full((2, 8, smollm2.words), -1, dtype=torch.int32)
    for kernels, pool in zip((CpuMaskKernels(smollm2), PlainMaskKernels(smollm2, CPU)), pools, strict=True):
        kernels.build(pool, states, states, automaton)
    assert torch.equal(*pools)
    assert pools[0, 1].any()


def test_many_rows_on_all_threads() -> None:
    vocabulary = make_vocabulary([b"%d" % n for n in range(9_000)] + [b"x%d" % n for n in range(9_000)], [])
    kernels = CpuMaskKernels(vocabulary)
    pool = torch.zeros(64, vocabulary.words, dtype=torch.int32)
    kernels.build(pool, list(range(64)), [1] * 64, digits())
    expected = np.arange(vocabulary.words * 32) < 9_000
    assert (bits_of(pool, vocabulary.size) == expected).all()
    logits = torch.zeros(64, vocabulary.size)
    kernels.apply(logits, pool, torch.arange(64, dtype=torch.int32))
    assert (logits.isfinite().numpy() == expected[: vocabulary.size]).all()


def test_tensors_that_the_kernels_would_misread_are_refused() -> None:
    kernels = CpuMaskKernels(make_vocabulary([b"7"] * 40, []))
    pool, row = torch.zeros(3, 2, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
    wrong = (torch.zeros(1, 39), torch.zeros(2, 40), torch.zeros(1, 40).double(), torch.zeros(1, 80)[:, ::2])
    for logits in wrong:
        with pytest.raises(ValueError, match=r"contiguous torch\.float32 tensor of shape \(1, 40\)"):
            kernels.apply(logits, pool, row)
    with pytest.raises(IndexError, match="has 3 rows"):
        kernels.build(pool, [3], [1], digits())
    with pytest.raises(IndexError, match="has 2 states"):
        kernels.build(pool, [0], [2], digits())


def test_machine_code_of_mask_kernels_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.config, "CACHE_DIR", "")
    assert compiling.cache_in(tmp_path)
    vocabulary = make_vocabulary([b"7"], [])
    CpuMaskKernels(vocabulary)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}
    assert len(kept) == 3
    CpuMaskKernels(vocabulary)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")} == kept


@settings(max_examples=10, derandomize=True, deadline=None, database=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_automata_keep_their_index_while_others_come_and_go(seed: int) -> None:
    rng = np.random.default_rng(seed)
    automata, held = Automata(CPU), dict[int, Tables]()
    for _ in range(20):
        if held and rng.random() < 0.4:
            index = int(rng.choice(list(held)))
            automata.remove(index)
            del held[index]
        else:
            tables = random_tables(rng, np.arange(256))
            index = automata.add(tables)
            assert index not in held
            held[index] = tables
        assert len(automata) == len(held)
        for index, tables in held.items():
            arrays, count = automata.arrays, tables.transitions.size
            offset = int(arrays.offsets[index])
            placed = arrays.transitions[offset : offset + count].numpy().view(np.uint16)
            np.testing.assert_array_equal(placed.reshape(tables.transitions.shape), tables.transitions)
            np.testing.assert_array_equal(arrays.classes[index].numpy(), tables.classes)
            assert int(arrays.num_classes[index]) == tables.transitions.shape[1]


def test_an_automaton_that_is_not_there_is_said_so() -> None:
    automata = Automata(CPU)
    index = automata.add(digits())
    automata.remove(index)
    for wrong in (index, index + 1, -1):
        with pytest.raises(LookupError, match=f"no automaton {wrong}"):
            automata.remove(wrong)
