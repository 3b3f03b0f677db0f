"""A batch of a hundred thousand prompts."""

from __future__ import annotations

from tests.security.bomb import TEXT, refused

attack = refused(TEXT, {"prompt": ["a"] * 100_000}, {"prompt": [[1]] * 100_000}, says="at most 128 answers")
