"""A batch of prompts, each with many answers: each number is allowed, their product is not."""

from __future__ import annotations

from tests.security.bomb import TEXT, refused

attack = refused(TEXT, {"prompt": ["a"] * 100, "n": 64}, {"prompt": [[1]] * 3, "n": 64}, says="at most 128 answers")
