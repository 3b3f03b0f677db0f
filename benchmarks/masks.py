"""What constrained decoding costs per step on a CPU: building a mask row, applying rows, advancing states.

    .venv/bin/python -m benchmarks.masks [--threads N]

On the vocabulary of the packaged SmolLM2. Automata are written by hand here: the content of a JSON string (nearly
everything is legal), the digits of a number, the rest of a fixed word. "plain" is the walk of all tokens side by side,
one array operation per byte.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from gpu_worker.grammar.vocabulary import Vocabulary, load_vocabulary
from gpu_worker.kernels.automata import Automata
from gpu_worker.kernels.mask_reference import PlainMaskKernels
from gpu_worker.kernels.selection import mask_kernels_for
from shared.config import DEFAULT_MODEL, Settings
from shared.grammar import Tables
from shared.model_files import locate
from shared.tokenizer import Tokenizer

CPU = torch.device("cpu")
APPLIED = (1, 8, 64)


def string_content() -> Tables:
    """State 1: anywhere in a JSON string, UTF-8 and escapes checked; 6 is after its end."""
    follow = dict[tuple[int, int], int]()
    for byte in range(0x20, 0x80):
        follow[1, byte] = 1
    follow[1, ord('"')], follow[1, ord("\\")] = 6, 5
    for byte in range(0xC2, 0xF5):
        follow[1, byte] = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
    for byte in range(0x80, 0xC0):
        follow[2, byte], follow[3, byte], follow[4, byte] = 1, 2, 3
    for byte in b'"\\/bfnrt':
        follow[5, byte] = 1
    return tables(follow, 7)


def number() -> Tables:
    """State 1: within the digits of a number; 2 after the point, 3 after the end."""
    follow = {(1, byte): 1 for byte in b"0123456789"} | {(2, byte): 2 for byte in b"0123456789"}
    follow |= {(1, ord(".")): 2, (1, ord(",")): 3, (2, ord(",")): 3}
    return tables(follow, 4)


def word(text: bytes) -> Tables:
    """States 1, 2, …: a fixed text."""
    return tables({(place, byte): place + 1 for place, byte in enumerate(text, start=1)}, len(text) + 2)


def tables(follow: dict[tuple[int, int], int], states: int) -> Tables:
    dense = np.zeros((states, 256), np.uint16)
    for (state, byte), target in follow.items():
        dense[state, byte] = target
    columns, classes = np.unique(dense, axis=1, return_inverse=True)
    return Tables(classes.astype(np.uint8), np.ascontiguousarray(columns), np.arange(states) == states - 1)


def microseconds(call: Callable[[], object], seconds: float = 0.5) -> float:
    """The median time of one call."""
    call()
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < 5 or time.perf_counter() - begin < seconds:
        before = time.perf_counter()
        call()
        times.append(time.perf_counter() - before)
    return statistics.median(times) * 1e6


def load() -> Vocabulary:
    cache = Settings().cache_path
    tokenizer = Tokenizer.load(locate(DEFAULT_MODEL, cache), cache)
    tokenizer.spelling()
    begin = time.perf_counter()
    vocabulary = load_vocabulary(tokenizer, tokenizer.vocab_size, cache)
    assert vocabulary is not None
    print(f"vocabulary of {vocabulary.size:,} tokens loaded in {(time.perf_counter() - begin) * 1e3:.0f} ms")
    return vocabulary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int)
    threads = parser.parse_args().threads
    if threads is not None:
        torch.set_num_threads(threads)
    vocabulary = load()
    kernels = mask_kernels_for(CPU, vocabulary, Settings().cache_path)
    plain = PlainMaskKernels(vocabulary, CPU)
    pool = torch.zeros(4, vocabulary.words, dtype=torch.int32)
    cases = {"string content": string_content(), "number": number(), "fixed word": word(b'"description": "')}
    print(f"\n{'build one row':24}{'tokens':>8}{'compiled us':>14}{'plain us':>12}")
    for row, (name, table) in enumerate(cases.items()):
        took = microseconds(partial(kernels.build, pool, [row], [1], table))
        plainly = microseconds(partial(plain.build, pool, [3], [1], table))
        assert torch.equal(pool[row], pool[3])
        legal = int(np.bitwise_count(pool[row].numpy().view(np.uint32)).sum())
        print(f"{name:24}{legal:8,}{took:14.1f}{plainly:12.1f}")
    print(f"\n{'apply':24}{'rows':>8}{'compiled us':>14}{'plain us':>12}")
    for row, name in enumerate(cases):
        for rows in APPLIED:
            logits = torch.randn(rows, vocabulary.size)
            index = torch.full((rows,), row, dtype=torch.int32)
            took = microseconds(partial(kernels.apply, logits, pool, index))
            plainly = microseconds(partial(plain.apply, logits, pool, index))
            print(f"{name:24}{rows:8}{took:14.1f}{plainly:12.1f}")
    automata = Automata(CPU)
    for table in cases.values():
        automata.add(table)
    print(f"\n{'advance':24}{'rows':>8}{'compiled us':>14}{'plain us':>12}")
    for rows in APPLIED:
        states = torch.ones(rows, dtype=torch.int32)
        tokens = torch.arange(rows) + 1000
        which = (torch.arange(rows) % 3).to(torch.int32)
        row = (states, tokens, automata.arrays, which)
        took = microseconds(partial(kernels.advance, *row))
        plainly = microseconds(partial(plain.advance, *row))
        print(f"{'one token each':24}{rows:8}{took:14.1f}{plainly:12.1f}")


if __name__ == "__main__":
    main()
