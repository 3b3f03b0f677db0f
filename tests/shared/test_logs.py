"""Log lines hold what was said, and no more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from shared import logs
from shared.config import Settings


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_variables_are_not_shown_with_a_traceback(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They hold prompts and keys."""
    logs.configure(Settings(log_format=log_format), role="r")  # type: ignore[arg-type]
    prompt = "MARKER".lower()
    try:
        raise ValueError(len(prompt))
    except ValueError:
        structlog.get_logger("x").exception("it failed")
    shown = capsys.readouterr().err
    assert "ValueError" in shown
    assert "test_logs" in shown, "where is shown"
    assert "marker" not in shown
