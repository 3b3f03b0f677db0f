"""Which version of what was measured, and where."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from benchmarks.peers.environments import Environment
from benchmarks.peers.llama_cpp_python import SOURCE
from benchmarks.peers.vllm import preloaded


def machine() -> str:
    """Processor, cores and memory."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    name = models[0] if models else platform.machine()
    return f"{name}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB"


def ours() -> str:
    """The commit, and whether the tree differs from it."""
    found = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def versions(environments: list[Environment]) -> dict[str, str]:
    """By name: what is installed and asked for."""
    peers = {environment.name: environment.requirements[0].partition("==")[2] for environment in environments}
    peers["vllm"] += f" with {', '.join(path.name for path in preloaded()) or 'nothing'} preloaded"
    return {"rootstream": ours(), "llama-server": f"llama.cpp of {SOURCE}", **peers}
