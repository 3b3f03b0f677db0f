"""Fixtures for all tests: a real embedded server, and a bus with a namespace of its own."""

from __future__ import annotations

import itertools
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest
import pytest_asyncio

from rootstream.embedded import EmbeddedServer
from shared.bus import Bus
from tests.toy import make_toy_model

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")

# A shell that starts us in the background ignores Ctrl-C, and so would we and all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

_counter = itertools.count()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A real Valkey server for the whole test session."""
    with tempfile.TemporaryDirectory(prefix="rs-") as directory:
        server = EmbeddedServer(Path(directory))
        server.start()
        yield server.url
        server.stop()


@pytest.fixture
def namespace() -> str:
    """A key prefix that no other test uses."""
    return f"test{next(_counter)}"


@pytest_asyncio.fixture
async def bus(redis_url: str, namespace: str) -> AsyncIterator[Bus]:
    """A bus of this test's own."""
    bus = Bus.connect(redis_url, namespace)
    yield bus
    await bus.close()


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama directory with random weights and a tokenizer of its own, made once."""
    return make_toy_model(tmp_path_factory.mktemp("models") / "toy-llama")


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where services keep converted tokenizers and compiled kernels: made once per session."""
    return tmp_path_factory.mktemp("cache")
