"""One server and one recording proxy for all clients. A test fails, too, if its wire was not as described."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.judge import faults
from tests.clients.recorder import Recorder
from tests.clients.serving import ROOT, SCRIPTED, Server, own_oracle, own_python, own_variables

# Nothing here asks anybody but the server: packages that would fetch something, or report something, are told not to.
os.environ |= {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LANGSMITH_TRACING": "false",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
}


@contextlib.contextmanager
def recorded(*arguments: str) -> Iterator[Recorder]:
    """A recording proxy before a server of its own, which is started with ``arguments``."""
    server = Server(*arguments)
    try:
        server.wait_ready()
        with Recorder(server.url).running() as recorder:
            yield recorder
    finally:
        server.stop()


@pytest.fixture(scope="session")
def recorder() -> Iterator[Recorder]:
    """The packaged model."""
    with recorded() as recorder:
        yield recorder


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    """The model with a script (scripted.py), which calls tools by itself."""
    folder = tmp_path_factory.mktemp("models") / SCRIPTED
    make = [str(own_python()), "-m", "tests.clients.scripted", str(folder)]
    subprocess.run(make, check=True, cwd=ROOT, env=own_variables())
    with recorded(str(folder), "--dtype", "float32", "--reasoning-format", "think") as recorder:
        yield recorder


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packaged model's tokenizer, as transformers reads it."""
    folder = tmp_path_factory.mktemp("tokenizer")
    own_oracle("tokenizer", str(folder))
    return folder


@pytest.fixture(scope="session")
def url(recorder: Recorder) -> str:
    """Where the server is, without a path."""
    return recorder.url


@pytest.fixture(scope="session")
def base_url(url: str) -> str:
    """What clients of OpenAI's API are given."""
    return f"{url}/v1"


@pytest.fixture(scope="session")
def scripted_url(scripted: Recorder) -> str:
    """The same for the model with a script."""
    return f"{scripted.url}/v1"


@pytest.fixture(autouse=True)
def judged(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test's clients exchanged with a server is as the API's description says."""
    yield
    recorders: list[Recorder] = [
        request.getfixturevalue(name) for name in ("recorder", "scripted") if name in request.fixturenames
    ]
    exchanges = [exchange for recorder in recorders for exchange in recorder.taken()]
    wrong = [f"{fault}\n{exchange}" for exchange in exchanges for fault in faults(exchange)]
    assert not wrong, "\n\n".join(wrong)
