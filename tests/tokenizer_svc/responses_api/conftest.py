"""Several front doors."""

from __future__ import annotations

from tests.tokenizer_svc.resumable.conftest import doors, web

__all__ = ["doors", "web"]
