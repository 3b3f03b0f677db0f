"""A pattern beyond the largest that is looked at."""

from __future__ import annotations

from tests.security.bomb import SAY, TEXT, refused

attack = refused(TEXT, {**SAY, "regex": "a" * 70_000}, {**SAY, "regex": "é" * 40_000}, says="bytes long")
