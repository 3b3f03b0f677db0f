"""A browser, for what notebooks show; skipped where there is none."""

from tests.tokenizer_svc.pages.conftest import browser, page

__all__ = ["browser", "page"]
