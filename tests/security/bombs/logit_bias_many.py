"""More biases than are looked at."""

from __future__ import annotations

from tests.security.bomb import SAY, TEXT, refused

attack = refused(TEXT, {**SAY, "logit_bias": {str(id): 1 for id in range(100_000)}}, says="at most 1024")
