"""One server and one recording proxy for all clients. A test fails, too, if its wire was not as described."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.judge import faults
from tests.clients.recorder import Recorder
from tests.clients.serving import Server


@pytest.fixture(scope="session")
def recorder() -> Iterator[Recorder]:
    """The proxy, before a server with the packaged model."""
    server = Server()
    try:
        server.wait_ready()
        with Recorder(server.url).running() as recorder:
            yield recorder
    finally:
        server.stop()


@pytest.fixture(scope="session")
def url(recorder: Recorder) -> str:
    """Where the server is, without a path."""
    return recorder.url


@pytest.fixture(scope="session")
def base_url(url: str) -> str:
    """What clients of OpenAI's API are given."""
    return f"{url}/v1"


@pytest.fixture(autouse=True)
def judged(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test's clients exchanged with the server is as the API's description says."""
    yield
    if "recorder" not in request.fixturenames:
        return
    recorder: Recorder = request.getfixturevalue("recorder")
    wrong = [f"{fault}\n{exchange}" for exchange in recorder.taken() for fault in faults(exchange)]
    assert not wrong, "\n\n".join(wrong)
