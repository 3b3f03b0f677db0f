"""Hardware, from the system. Only where there is a GPU, another process asks torch what it sees of it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from rootstream.doctor.finding import Finding, State, attempt

_USED = {
    "avx2": "",
    "avx512f": "all kernels run on half as wide registers",
    "avx512_vnni": "quantised weights are slower",
    "avx512_bf16": "bfloat16 weights are slower",
}
"""What x86 kernels make use of, and what it means to be without."""

_OTHERS = ("amx_bf16", "asimd", "bf16", "i8mm", "sve")
_TORCH_S = 120.0  # to import it for the first time
TORCH_SEES = """
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
_LITTLE_DISK_GIB = 1.0


def look(cache: Path) -> Iterator[Finding]:
    yield _cpu()
    yield Finding("cores", str(_cores()))
    yield _memory()
    yield _disk(cache)
    yield from gpu()


def _cpu() -> Finding:
    fields = _key_values(Path("/proc/cpuinfo"))
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    model = fields.get("model name") or platform.processor() or "unknown"
    has = [name for name in (*_USED, *_OTHERS) if name in flags]
    text = f"{model}; {' '.join(has) or 'no vector extensions known'}"
    if platform.machine() != "x86_64":
        return Finding("CPU", text)
    if lacking := [f"without {name} {loss}" for name, loss in _USED.items() if loss and name not in flags]:
        text = f"{text} ({'; '.join(lacking)})"
    return Finding("CPU", text)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_gib() -> float | None:
    """Memory that is free, here or in this container."""
    fields = _key_values(Path("/proc/meminfo"))
    if "MemAvailable" not in fields:
        return None
    available = int(fields["MemAvailable"].split()[0]) / 2**20
    return min(available, _container_limit() or available)


def _memory() -> Finding:
    fields = _key_values(Path("/proc/meminfo"))
    if "MemTotal" not in fields:
        return Finding("memory", "unknown")
    total, available = (int(fields[name].split()[0]) / 2**20 for name in ("MemTotal", "MemAvailable"))
    limit = _container_limit()
    bound = f"; this container may use {limit:.1f} GiB" if limit is not None and limit < total else ""
    return Finding("memory", f"{available:.1f} of {total:.1f} GiB available{bound}")


def _container_limit() -> float | None:
    """GiB that the control group allows, None for no limit."""
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text()) / 2**30
    except (OSError, ValueError):
        return None


def _disk(cache: Path) -> Finding:
    """Where models and compiled kernels are kept."""
    there = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(there).free / 2**30
    kept = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) / 2**30 if cache.exists() else 0.0
    text = f"{cache}: {kept:.1f} GiB kept, {free:.1f} GiB free"
    if not os.access(there, os.W_OK):
        return Finding("cache", f"{text}; not writable", State.PROBLEM, "give another --cache-dir")
    if free < _LITTLE_DISK_GIB:
        return Finding("cache", text, State.WARNING, "make room, or give another --cache-dir")
    return Finding("cache", text)


def gpu() -> Iterator[Finding]:
    """What the driver says, and what torch and triton make of it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        yield Finding("GPU", "none (no nvidia-smi): the CPU is used")
        return
    try:
        answer = subprocess.run([program, *_GPU_QUERY], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        text = f"nvidia-smi does not answer ({error}): the CPU is used"
        yield Finding("GPU", text, State.WARNING, "look whether the driver is loaded: nvidia-smi, dmesg")
        return
    devices = "; ".join(line for line in answer.stdout.splitlines() if line.strip())
    if not devices:
        yield Finding("GPU", "none: the CPU is used")
        return
    yield Finding("GPU", f"{devices} (name, memory, driver)")
    yield attempt("CUDA", _torch_sees, "install torch again, a build for this driver's CUDA")
    if importlib.util.find_spec("triton") is None:
        text = "triton is not installed: plain torch operators run, many times slower"
        yield Finding("GPU kernels", text, State.PROBLEM, "pip install triton")


def _torch_sees() -> str:
    try:
        answer = subprocess.run(
            [sys.executable, "-c", TORCH_SEES], capture_output=True, text=True, timeout=_TORCH_S, check=True
        )
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise RuntimeError(f"torch cannot be asked: {last}") from error
    except subprocess.SubprocessError as error:
        raise RuntimeError(f"torch cannot be asked: {error}") from error
    return "; ".join(answer.stdout.splitlines())


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
