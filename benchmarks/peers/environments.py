"""A virtual environment for one peer, with pinned packages. Knows pip, nothing of what is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.peers.folders import HOME
from shared.errors import UserError

PINS = Path(__file__).parent / "pins"


class Environment(NamedTuple):
    """What is installed, and how one sees that it is."""

    name: str
    requirements: Sequence[str]
    module: str
    removed: Sequence[str] = ()
    build: Mapping[str, str] = {}
    """Environment variables while installing."""

    @property
    def folder(self) -> Path:
        return HOME / self.name

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def missing(self) -> str | None:
        return None if self._stamp.exists() else f"{self.requirements[0]} is not installed"

    def install(self, index: str | None) -> None:
        """Make it, unless it is there as asked for. Raises UserError."""
        if self._stamp.exists() and self._stamp.read_text() == repr(self.requirements):
            print(f"{self.name}: installed", flush=True)
            return
        print(f"{self.name}: installing {', '.join(self.requirements)} …", flush=True)
        if not self.python.exists():
            run([sys.executable, "-m", "venv", str(self.folder)], f"could not make the environment {self.name}")
        pins = PINS / f"{self.name}.txt"
        more = ["--extra-index-url", index] if index else []
        packages = [*more, "-c", str(pins), *self.requirements]
        advice = f"pip could not install {self.name}"
        if any(name.startswith("torch==") for name in self.requirements) and not index:
            advice += "; if it found no CPU build of torch, name an index of such builds with --torch-index"
        run([*self.pip, "install", "-q", *packages], advice, self.build)
        if self.removed:
            run([*self.pip, "uninstall", "-q", "-y", *self.removed], f"pip could not finish {self.name}")
        run([str(self.python), "-c", f"import {self.module}"], f"{self.name} is installed but cannot be imported")
        self._stamp.write_text(repr(self.requirements))

    @property
    def pip(self) -> list[str]:
        return [str(self.python), "-m", "pip", "--disable-pip-version-check"]

    @property
    def _stamp(self) -> Path:
        return self.folder / "installed.stamp"


def run(command: Sequence[str], failure: str, environment: Mapping[str, str] | None = None) -> None:
    """Run a command to its end, at low priority; raises UserError, with ``failure``, where it fails."""
    done = subprocess.run(["nice", *command], env={**os.environ, **(environment or {})}, check=False)
    if done.returncode:
        raise UserError(f"{failure} (exit code {done.returncode}; what it said is above)")
