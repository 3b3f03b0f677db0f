"""`rootstream doctor`: what this machine has, and whether that is enough to serve.

Looks without importing anything heavy: versions from package metadata, hardware from the system. Only where there is a
GPU, another process asks torch what it sees of it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
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
_TORCH_S = 120.0  # to import it for the first time
_TORCH_SEES = """
import torch
if torch.version.cuda is None:
    print(f"torch {torch.__version__} is a build without CUDA: the CPU is used. Install the CUDA build of torch")
elif not torch.cuda.is_available():
    print(f"torch {torch.__version__} for CUDA {torch.version.cuda} finds no device: the CPU is used")
else:
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        free, total = (size / 2**30 for size in torch.cuda.mem_get_info(index))
        print(
            f"CUDA {torch.version.cuda}, {device.name}: compute capability {device.major}.{device.minor}, "
            f"{device.multi_processor_count} multiprocessors, {free:.1f} of {total:.1f} GiB free"
        )
"""
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
        *_gpu(),
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


def _gpu() -> Iterable[Finding]:
    """What the driver says, and what torch and triton make of it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        yield Finding("GPU", "none (no nvidia-smi): the CPU is used")
        return
    try:
        answer = subprocess.run([program, *_GPU_QUERY], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("GPU", f"nvidia-smi does not answer ({error}): the CPU is used")
        return
    devices = "; ".join(line for line in answer.stdout.splitlines() if line.strip())
    if not devices:
        yield Finding("GPU", "none: the CPU is used")
        return
    yield Finding("GPU", f"{devices} (name, memory, driver)")
    yield _attempt("CUDA", _torch_sees)
    if importlib.util.find_spec("triton") is None:
        yield Finding("GPU kernels", "triton is not installed: plain torch operators run, many times slower", ok=False)


def _torch_sees() -> str:
    try:
        answer = subprocess.run(
            [sys.executable, "-c", _TORCH_SEES], capture_output=True, text=True, timeout=_TORCH_S, check=True
        )
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise RuntimeError(f"torch cannot be asked: {last}") from error
    except subprocess.SubprocessError as error:
        raise RuntimeError(f"torch cannot be asked: {error}") from error
    return "; ".join(answer.stdout.splitlines())


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
