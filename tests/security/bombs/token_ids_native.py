"""The same through the native API, and in stop_token_ids."""

from __future__ import annotations

from tests.security.bomb import NATIVE, refused

attack = refused(
    NATIVE,
    *({"input_ids": ids} for ids in ([-1], [320], [2**40], [[1], [320]], [], [[]], [1, [2]])),
    *({"text": "a", "sampling_params": {"stop_token_ids": [id]}} for id in (-1, "a", 1.5)),
)
