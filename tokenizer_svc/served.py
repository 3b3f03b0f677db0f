"""What a front door serves, as clients see it: a fingerprint of all that decides its answers."""

from __future__ import annotations

import hashlib
import importlib.metadata

from shared.config import Settings

_DIGITS = 10


def fingerprint(settings: Settings) -> str:
    """Another one where the same request may get another answer: of the release, the model, and how it is computed."""
    decisive = (
        importlib.metadata.version("rootstream"),
        settings.model,
        settings.load_format,
        settings.device,
        settings.dtype,
        settings.quantization,
    )
    return f"fp_{hashlib.sha256(repr(decisive).encode()).hexdigest()[:_DIGITS]}"
