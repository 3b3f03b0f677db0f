"""A least length beyond the greatest: the end of the answer is masked for ever."""

from __future__ import annotations

from tests.security.bomb import SAY, TEXT, refused

attack = refused(
    TEXT,
    {**SAY, "min_tokens": 5},
    {**SAY, "min_tokens": 2**31},
    {**SAY, "min_tokens": -1},
    {"prompt": "hi", "min_tokens": 10**30},
    says="min_tokens",
)
