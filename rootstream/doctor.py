"""`rootstream doctor`: what this machine has, and whether that is enough to serve.

Looks without importing anything heavy: versions from package metadata, hardware from the system.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from rootstream import __version__
from rootstream.embedded import EmbeddedServer
from rootstream.launch import check_port
from rootstream.runtime_dir import private_directory
from shared.config import Settings
from shared.errors import UserError
from shared.model_files import locate

_PACKAGES = ("torch", "transformers", "tokenizers", "aiohttp", "redis", "uvloop", "numba", "triton")
_OPTIONAL = frozenset({"triton"})
_CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16", "i8mm", "sve")
_GPU_QUERY = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")


class Finding(NamedTuple):
    """One line of the report; ``ok`` is False where serving needs it mended."""

    subject: str
    text: str
    ok: bool = True


def run(settings: Settings) -> int:
    """Print the report; the exit code is 1 if something is missing."""
    findings = examine(settings)
    table = Table.grid(padding=(0, 2))
    for _ in range(3):
        table.add_column(overflow="fold")
    for finding in findings:
        mark = "[green]✓[/green]" if finding.ok else "[red]✗[/red]"
        table.add_row(mark, finding.subject, finding.text)
    Console(highlight=False).print(table)
    return 0 if all(finding.ok for finding in findings) else 1


def examine(settings: Settings) -> list[Finding]:
    """Everything the report says, in order."""
    return [
        Finding("rootstream", __version__),
        Finding("Python", f"{platform.python_version()} ({sys.executable})"),
        Finding("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        *_packages(),
        Finding("CPU", _cpu()),
        Finding("cores", str(_cores())),
        Finding("memory", _memory()),
        Finding("GPU", _gpu()),
        _attempt("model", lambda: _model(settings)),
        _attempt("Redis", _redis),
        _attempt("port", lambda: _port(settings)),
    ]


def _attempt(subject: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, look())
    except (UserError, RuntimeError, OSError) as error:
        return Finding(subject, str(error), ok=False)


def _packages() -> Iterable[Finding]:
    for name in _PACKAGES:
        try:
            yield Finding(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "not installed", ok=name in _OPTIONAL)


def _cpu() -> str:
    fields = _key_values(Path("/proc/cpuinfo"))
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    features = [name for name in _CPU_FEATURES if name in flags]
    model = fields.get("model name") or platform.processor() or "unknown"
    return f"{model}; {' '.join(features) or 'no vector extensions known'}"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> str:
    fields = _key_values(Path("/proc/meminfo"))
    if "MemTotal" not in fields:
        return "unknown"
    total, available = (int(fields[name].split()[0]) / 2**20 for name in ("MemTotal", "MemAvailable"))
    limit = _container_limit()
    bound = f"; this container may use {limit:.1f} GiB" if limit is not None and limit < total else ""
    return f"{available:.1f} of {total:.1f} GiB available{bound}"


def _container_limit() -> float | None:
    """GiB that the control group allows, None for no limit."""
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text()) / 2**30
    except (OSError, ValueError):
        return None


def _gpu() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "none (no nvidia-smi): the CPU is used"
    try:
        answer = subprocess.run([program, *_GPU_QUERY], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"nvidia-smi does not answer ({error}): the CPU is used"
    return "; ".join(answer.stdout.split("\n")).strip("; ") or "none: the CPU is used"


def _model(settings: Settings) -> str:
    files = locate(settings.model, settings.cache_path, settings.load_format)
    size = sum(file.stat().st_size for file in ([files.path] if files.path.is_file() else files.path.glob("*")))
    return f"{files.name}: {files.format}, {size / 2**20:,.0f} MiB at {files.path}"


def _redis() -> str:
    began = time.monotonic()
    with private_directory() as directory:
        server = EmbeddedServer(directory, tied=True)
        try:
            server.start()
            return f"the embedded server starts in {1000 * (time.monotonic() - began):.0f} ms"
        finally:
            server.stop()


def _port(settings: Settings) -> str:
    check_port(settings.host, settings.port)
    return f"{settings.host}:{settings.port} is free"


def _key_values(path: Path) -> dict[str, str]:
    """The first occurrence of each `key : value` of a file of /proc."""
    found: dict[str, str] = {}
    try:
        text = path.read_text()
    except OSError:
        return found
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip(), value.strip())
    return found
