"""One deployment with a toy model for each module of tests, in a thread: programs block."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import rootstream as rs
from tests.stack import Stack, running_in_thread


@pytest.fixture(scope="module")
def stack(redis_url: str, toy_model: Path, cache_dir: Path) -> Iterator[Stack]:
    with running_in_thread(redis_url, "language", toy_model, cache_dir, page_size=4) as stack:
        yield stack


@pytest.fixture(autouse=True)
def by_default(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that name no server run on this one."""
    monkeypatch.setenv("ROOTSTREAM_URL", stack.url)
    monkeypatch.delenv("ROOTSTREAM_API_KEY", raising=False)
    rs.set_default(None)  # the one of the environment is made once: it may be that of a module before
