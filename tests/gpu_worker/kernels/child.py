"""Tests that need a process of their own: Triton looks at the environment once, when it is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def run(*arguments: str, **environment: str) -> str:
    """What ``python -m`` with these arguments shows; without settings of Triton but those given. It has to succeed."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")} | environment
    command = [sys.executable, "-m", *arguments]
    ran = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
