"""Every bomb in bombs/ against one deployment, which goes on as if nothing had been."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

import pytest

from tests.security.bomb import SLOW_S, Attack
from tests.security.deployment import Deployment

BOMBS = sorted((Path(__file__).parent / "bombs").glob("*.py"))


def load(path: Path) -> Attack:
    spec = importlib.util.spec_from_file_location(f"bomb_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.__doc__, f"{path.name} does not say what it is"
    return module.attack


def test_there_are_bombs() -> None:
    assert len(BOMBS) >= 50


@pytest.mark.parametrize("path", BOMBS, ids=lambda path: path.stem)
def test_the_service_goes_on(deployment: Deployment, path: Path) -> None:
    attack = load(path)
    began = time.monotonic()
    attack(deployment)
    assert time.monotonic() - began < SLOW_S


def test_nothing_is_left_of_them(deployment: Deployment) -> None:
    """After all: no request under way, no page held, no file or connection left open."""
    deployment.settle()
    deployment.check()
