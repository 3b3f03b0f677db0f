"""Nothing to continue: a batch of zero tokens in the model."""

from __future__ import annotations

from tests.security.bomb import TEXT, refused

attack = refused(TEXT, *({"prompt": prompt} for prompt in ("", [], [""], [[]], ["a", ""], [[1], []], None, {})))
