"""A choice between a hundred thousand texts, or texts of megabytes."""

from __future__ import annotations

from tests.security.bomb import SAY, TEXT, refused

attack = refused(
    TEXT,
    {**SAY, "choice": [f"text {i}" for i in range(100_000)]},
    {**SAY, "choice": ["x" * 2_000_000]},
    {**SAY, "choice": []},
    {**SAY, "choice": [""]},
)
