"""One deployment for all that attacks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.security.deployment import Deployment


@pytest.fixture(scope="session")
def attacked(toy_model: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment that has seen worse; what is sent to it must not change how it answers others."""
    deployment = Deployment(toy_model, tmp_path_factory.mktemp("attacked"), cache_dir)
    yield deployment
    deployment.stop()


@pytest.fixture
def deployment(attacked: Deployment) -> Iterator[Deployment]:
    """The deployment, which must be as it was at the end of the test."""
    yield attacked
    attacked.check()
