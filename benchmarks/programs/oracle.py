"""What a cache with unlimited memory would have had of each prompt. Pure.

It forgets nothing, and knows a request's pages as soon as the request is there: nobody computes what somebody else is
just computing. What it cannot have is part of a page, and the tokens from which something has to be said: the last of a
prompt, and those before tokens that are scored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.programs.counting import Asked

PAGE_SIZE = 16  # the server's default


def best_hits(requests: Iterable[Asked], page_size: int = PAGE_SIZE) -> int:
    """Tokens of all prompts, taken in the order in which they came."""
    known: set[int] = set()
    hits = 0
    for request in requests:
        names = _pages([*request.prompt, *request.output[:-1]], page_size)  # of the last token nothing is computed
        for name in names[: request.reusable // page_size]:
            if name not in known:
                break
            hits += page_size
        known.update(names)
    return hits


def _pages(tokens: Sequence[int], page_size: int) -> list[int]:
    """A name for each whole page, which depends on all that is before."""
    names: list[int] = []
    name = 0
    for start in range(0, len(tokens) - page_size + 1, page_size):
        name = hash((name, tuple(tokens[start : start + page_size])))
        names.append(name)
    return names
