"""A server of a command's own, for as long as the command runs: `rootstream serve` in a child process.

It listens on a free port of the loopback, with a key that nobody else has, and ends with whoever started it, even when
that one is killed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console

from rootstream import log_lines
from rootstream.banner import url_of
from rootstream.probe import is_ready
from shared.config import Settings, to_environment, without_settings
from shared.errors import UserError
from shared.parent import end_with_parent

_HOST = "127.0.0.1"
_POLL_S = 0.1
_STOP_S = 20.0
_TAIL = 15


class OwnServer:
    """A running server, as a context. Raises UserError where it does not start."""

    def __init__(self, settings: Settings) -> None:
        with socket.create_server((_HOST, 0)) as probe:
            port = probe.getsockname()[1]
        self.api_key = secrets.token_urlsafe(24)
        self.url = url_of(_HOST, port)
        self._port = port
        self._settings = dataclasses.replace(
            settings,
            host=_HOST,
            port=port,
            parent=os.getpid(),
            api_keys=f"run:{self.api_key}",
            api_keys_file=None,
            admin_key=self.api_key,
            admin_key_file=None,
            admin_port=None,
            published_host=None,
            allowed_hosts=None,
            cors_origins=None,
            log_format="json",
            drain_timeout=0,
        )
        self._process: subprocess.Popen[bytes]
        self._log: Path

    def __enter__(self) -> Self:
        console = Console(stderr=True, highlight=False)
        console.print(f"starting a server of its own for {self._settings.model} …", markup=False)
        began = time.monotonic()
        with tempfile.NamedTemporaryFile(prefix="rootstream-log-", delete=False) as log:
            self._log = Path(log.name)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "rootstream.own_server"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=without_settings() | to_environment(self._settings),
                start_new_session=True,  # Ctrl-C is for the command
            )
        try:
            self._wait()
        except BaseException:
            self._stop()
            raise
        console.print(f"it is ready after {time.monotonic() - began:.1f} s", markup=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def _wait(self) -> None:
        while not asyncio.run(is_ready(_HOST, self._port)):
            if self._process.poll() is not None:
                lines = self._log.read_text(errors="replace").splitlines()
                shown = "\n".join(log_lines.read(line).text for line in lines[-_TAIL:])
                raise UserError(f"the server did not start:\n{shown}")
            time.sleep(_POLL_S)

    def _stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._log.unlink(missing_ok=True)


def main() -> None:
    """The child process: settings from its environment."""
    from cyclopts import App

    from rootstream import launch
    from shared.sources import settings_sources

    app = App(name="python -m rootstream.own_server", config=settings_sources())

    @app.default
    def start(settings: Settings = Settings()) -> None:  # pyright: ignore[reportUnusedFunction]
        end_with_parent(settings.parent)
        try:
            raise SystemExit(launch.serve(dataclasses.replace(settings, parent=None)))
        except UserError as error:
            print(f"rootstream: {error}", file=sys.stderr)
            raise SystemExit(2) from None

    app()


if __name__ == "__main__":
    main()
