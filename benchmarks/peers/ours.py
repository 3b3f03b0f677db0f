"""rootstream itself, as `rootstream serve` starts it: the code of this tree, whatever is installed."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.peers.server import Precision, Server


def ours(name: str, title: str, precision: Precision, *options: str) -> Server:
    """A server with these options of `rootstream serve`."""

    def command(port: int) -> list[str]:
        own = ["--port", str(port), "--log-level", "warning", *options]
        return [sys.executable, "-m", "rootstream", "serve", *own]

    tree = {"PYTHONPATH": str(Path(__file__).parents[2])}
    return Server(name, title, precision, command, lambda: None, tree, ready_path="/ready")


SERVERS = (
    ours("ours", "rootstream, default settings", Precision.FOUR_BITS),
    ours("ours-bf16", "rootstream, bf16", Precision.BF16, "--dtype", "bfloat16"),
)
