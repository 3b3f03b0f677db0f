"""A server started from the project's own environment: clients know it by its address alone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODEL = "smollm2-135m-instruct"
"""The packaged model: with an instruct template, and held by grammars it answers with tools and JSON right."""

SCRIPTED = "scripted"
"""The model of scripted.py."""
PLACES = ("San Francisco, CA", "Oslo", "Lima, Peru")
"""Where it asks for the weather. Where a grammar (strict tools) writes what is certain, any of them may follow."""

_OWN_ENVIRONMENT = Path(os.environ.get("ROOTSTREAM_ENVIRONMENT", ROOT / ".venv"))


def own_python() -> Path:
    """Python of the environment that rootstream is installed in."""
    return _OWN_ENVIRONMENT / "bin" / "python"


def own_variables() -> dict[str, str]:
    """Environment variables for what runs there: the code is this tree's."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def own_oracle(*arguments: str, given: str = "") -> str:
    """What oracle.py, run in rootstream's environment, prints."""
    command = [str(own_python()), "-m", "tests.clients.oracle", *arguments]
    return subprocess.run(
        command, input=given, check=True, text=True, stdout=subprocess.PIPE, cwd=ROOT, env=own_variables()
    ).stdout


class Server:
    """One running ``rootstream serve``."""

    def __init__(self, *arguments: str) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = tempfile.TemporaryDirectory(prefix="rs-")
        self._log = Path(self._folder.name) / "log"
        command = [str(own_python().with_name("rootstream")), "serve", *arguments, "--port", str(self.port)]
        with self._log.open("wb") as out:
            variables = own_variables() | {"XDG_RUNTIME_DIR": self._folder.name}
            self._process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=variables)

    def wait_ready(self, patience: float = 180) -> None:
        """Returns when it serves; raises with its log when it does not."""
        deadline = time.monotonic() + patience
        while not self._is_ready():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.1)

    def log(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    def stop(self) -> None:
        """Ctrl-C, and the end of it."""
        self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        assert code in (0, 130), self.log()
        self._folder.cleanup()

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/ready", timeout=5) as response:
                return response.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
