"""rootstream itself, as `rootstream serve` starts it."""

from __future__ import annotations

import sys

from benchmarks.peers.server import Precision, Server


def _ours(name: str, title: str, precision: Precision, *options: str) -> Server:
    def command(port: int) -> list[str]:
        own = ["--port", str(port), "--log-level", "warning", *options]
        return [sys.executable, "-m", "rootstream", "serve", *own]

    return Server(name, title, precision, command, missing=lambda: None, ready_path="/ready")


SERVERS = (
    _ours("ours", "rootstream, default settings", Precision.BF16),
    _ours("ours-bf16", "rootstream, bf16", Precision.BF16, "--dtype", "bfloat16"),
)
