"""Drive a server of ours with named workloads, with and without the radix cache, in one run.

    python -m benchmarks.serve                       every workload, and shared-prefix without cache
    python -m benchmarks.serve single --dtype float32
    python -m benchmarks.serve --help

Words after the workloads go to `rootstream serve`. To measure a server that is already there:
`rootstream bench --url …`. Peers on the same machine are comparable only in one sitting.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from rootstream.bench import workloads
from rootstream.bench.figures import Figures
from rootstream.bench.run import Plan, as_json, measure, write

app = App(name="python -m benchmarks.serve", help=__doc__, help_format="plaintext")
_START_S = 300.0


@app.default
def main(
    *words: Annotated[str, Parameter(allow_leading_hyphen=True, help="Workloads, then options of rootstream serve.")],
    seed: int = 0,
    output: Path = Path("results/serve.json"),
    compare: Annotated[bool, Parameter(help="Measure shared-prefix with --no-radix-cache too.")] = True,
) -> None:
    """Start servers, measure them, print ratios, write JSON."""
    names = [word for word in words if word in workloads.names()] or workloads.names()
    options = [word for word in words if word not in workloads.names()]
    report: dict[str, Any] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "options": options}
    cached = _measured(names, options, seed)
    report["default"] = as_json(cached)
    if compare and "shared-prefix" in names:
        plain = _measured(["shared-prefix"], [*options, "--no-radix-cache"], seed)
        report["no_radix_cache"] = as_json(plain)
        ratio = cached["shared-prefix"].requests_per_s / plain["shared-prefix"].requests_per_s
        report["radix_cache_speedup"] = round(ratio, 3)
        print(f"\nshared-prefix: {ratio:.2f} times the requests/s of --no-radix-cache")
    write(output, report)
    print(f"written to {output}")
    sys.exit(any(figures.failed for figures in cached.values()))


def _measured(names: Sequence[str], options: Sequence[str], seed: int) -> dict[str, Figures]:
    with server(options) as url:
        print(f"\nrootstream serve {' '.join(options)}")
        return asyncio.run(measure(url, Plan(names, seed=seed)))


@contextlib.contextmanager
def server(options: Sequence[str]) -> Generator[str]:
    """A running `rootstream serve` on a free port; its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "rootstream", "serve", "--port", str(port), "--log-level", "warning", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _wait(process, url)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit("the server ended before it was ready")
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(f"{url}/ready", timeout=5),
        ):
            return
        time.sleep(0.1)
    sys.exit(f"the server was not ready after {_START_S:.0f} s")


if __name__ == "__main__":
    app()
