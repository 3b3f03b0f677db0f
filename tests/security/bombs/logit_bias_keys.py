"""Biases for tokens that are none."""

from __future__ import annotations

from tests.security.bomb import SAY, TEXT, refused

KEYS = ("x", "-1", "320", "1.5", "", " 1", "1e1", "9" * 5000, "١", "0x1", "null", "\x00")
attack = refused(
    TEXT, *({**SAY, "logit_bias": {key: 1}} for key in KEYS), {**SAY, "logit_bias": [1]}, says="logit_bias"
)
