"""Token ids below, beyond, and far beyond the vocabulary: an index out of range in the embedding."""

from __future__ import annotations

from tests.security.bomb import TEXT, refused

IDS = ([-1], [320], [2**31], [2**63], [10**30], [1, 2, -(2**63)], [1.5], [True], [None], ["1", 2], [[1], 2])
attack = refused(TEXT, *({"prompt": ids, "max_tokens": 1} for ids in IDS))
