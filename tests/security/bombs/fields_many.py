"""Objects of a hundred thousand fields that nobody knows."""

from __future__ import annotations

from tests.security.bomb import SAY, TEXT, bounded

attack = bounded(TEXT, {**SAY, **{f"field{i}": i for i in range(100_000)}})
