"""Whether the servers compute the same model: how far their greedy answers agree. Pure."""

from __future__ import annotations

from itertools import takewhile

from benchmarks.peers.results import Results


def agreement(results: Results, reference: str) -> dict[str, str]:
    """For each server, of each prompt, how many characters of the reference's answer its own begins with.

    Greedy choices of a small model are often near-ties, which rounding decides: answers may part later on, but an
    order of rows or a tokenizer gone wrong would part them at once.
    """
    texts = {visit.server: visit.texts for visit in results.visits if visit.texts}
    expected = texts.get(reference, [])
    return {
        server: ", ".join(
            f"{common_length(own, other)}/{len(other)}" for own, other in zip(said, expected, strict=False)
        )
        for server, said in texts.items()
        if expected
    }


def common_length(one: str, other: str) -> int:
    """Characters that two texts begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
