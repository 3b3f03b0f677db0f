"""The bound on log-probabilities of prompts, counted by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol import Sampling, Scoring
from tokenizer_svc.api_error import ApiError
from tokenizer_svc.draft import Display, Draft
from tokenizer_svc.limits import Limits
from tokenizer_svc.score_bound import check_scores

SCORINGS = st.none() | st.builds(
    Scoring, start=st.integers(1, 12), top=st.integers(0, 3), ids=st.lists(st.integers(0, 9), max_size=2).map(tuple)
)


def draft(tokens: int, scoring: Scoring | None) -> Draft:
    sampling = Sampling(max_tokens=1, scoring=scoring)
    return Draft(prompt=0, input_ids=range(tokens), sampling=sampling, display=Display(), namespace="", priority=0)


def check(drafts: list[Draft], most: int) -> None:
    check_scores(drafts, "logprobs", Limits(max_prompt_logprobs=most))


@given(st.lists(st.tuples(st.integers(1, 12), SCORINGS), max_size=4))
def test_every_value_of_every_prompt_counts(asked: list[tuple[int, Scoring | None]]) -> None:
    values = [
        None
        for tokens, scoring in asked
        if scoring is not None
        for _ in range(scoring.start, tokens)
        for _ in ("its own", *range(scoring.top), *scoring.ids)
    ]
    drafts = [draft(tokens, scoring) for tokens, scoring in asked]
    check(drafts, len(values))
    if values:
        with pytest.raises(ApiError, match=f"asks for {len(values)} .* at most {len(values) - 1} "):
            check(drafts, len(values) - 1)
