"""What log-probabilities cost: steps of the engine with decode rows that want none, some, or many.

One engine in lock-step on one thread of a CPU, no streams. Rows of every kind take turns, so that a busy machine treats
them alike; and what is shown is processor time, the median of a step with decode rows, and of one that computes a chunk
of a prompt, all of whose tokens are scored.

    python -m benchmarks.scores
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gpu_worker.engine import Engine
from gpu_worker.startup import Loaded, load
from shared import columns
from shared.config import Settings
from shared.protocol import Admit, Open, Plan, Sampling, Scoring

CONTEXT = 256  # tokens that a row begins with
STEPS = 40  # of which the first are left out
KINDS: dict[str, Scoring | None] = {
    "none": None,
    "top 0": Scoring(CONTEXT),
    "top 5": Scoring(CONTEXT, 5),
    "top 20": Scoring(CONTEXT, 20),
}


class Driver:
    """An engine, and plans for it."""

    def __init__(self, loaded: Loaded) -> None:
        self._engine = Engine(loaded.model, loaded.card, 1)
        self._engine.receive(Open(epoch=1, incarnation=1))
        self._page_size = loaded.card.page_size
        self._chunk = loaded.card.chunk_tokens
        self._seq = itertools.count(1)

    def rows(self, count: int, scoring: Scoring | None) -> float:
        """Milliseconds of a step of ``count`` decode rows."""
        ids = list(range(1, count + 1))
        for id in ids:
            self._admit(id, Sampling(max_tokens=STEPS, temperature=0, scoring=scoring), STEPS)
        for begin in range(0, CONTEXT, self._chunk):
            for id in ids:
                self._compute(id, begin, min(self._chunk, CONTEXT - begin))
        steps = [self._step() for _ in range(STEPS - 2)]
        self._release(ids)
        return statistics.median(steps[5:])

    def prompt(self, scoring: Scoring | None) -> float:
        """Milliseconds of a step that computes a chunk of a prompt."""
        self._admit(1, Sampling(max_tokens=1, temperature=0, scoring=scoring), 1)
        elapsed = self._compute(1, 0, min(self._chunk, CONTEXT))
        self._release([1])
        return elapsed

    def _admit(self, id: int, sampling: Sampling, more: int) -> None:
        tokens = columns.int32((37 * id + 11 * at) % 4000 + 5 for at in range(CONTEXT))
        pages = -(-(CONTEXT + more) // self._page_size)
        self._tell(
            admits=(
                Admit(id, tokens, CONTEXT, 0, sampling, b"", 0 if sampling.scoring is None else sampling.scoring.start),
            ),
            grant_ids=columns.uint64([id]),
            grant_limits=columns.int32([CONTEXT + more - 1]),
            grant_page_counts=columns.int32([pages]),
            grant_pages=columns.int32(range((id - 1) * pages, id * pages)),
        )

    def _compute(self, id: int, start: int, length: int) -> float:
        self._tell(
            chunk_ids=columns.uint64([id]), chunk_starts=columns.int32([start]), chunk_lengths=columns.int32([length])
        )
        return self._step()

    def _release(self, ids: Sequence[int]) -> None:
        self._tell(releases=columns.uint64(ids))
        self._step()

    def _tell(self, **plan: object) -> None:
        self._engine.receive(Plan(epoch=1, seq=next(self._seq), **plan))  # pyright: ignore[reportArgumentType]

    def _step(self) -> float:
        begin = time.process_time()
        self._engine.step()
        return 1000 * (time.process_time() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    driver = Driver(load(replace(Settings(), kv_memory="256MiB", threads=1), lambda _: None))
    found: dict[str, list[float]] = {}
    for _ in range(arguments.rounds):
        for kind, scoring in KINDS.items():
            found.setdefault(f"{arguments.rows} rows, {kind}", []).append(driver.rows(arguments.rows, scoring))
            whole = None if scoring is None else Scoring(1, scoring.top)
            found.setdefault(f"chunk of {CONTEXT}, {kind}", []).append(driver.prompt(whole))
    for name, times in found.items():
        print(f"{name:24} {statistics.median(times):8.2f} ms  ({min(times):.2f} to {max(times):.2f})")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
