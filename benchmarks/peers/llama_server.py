"""llama.cpp's own `llama-server`, compiled for this machine from the source that llama-cpp-python's archive carries.

Eight slots with continuous batching, as many as the workloads have requests at once, a KV cache that they share,
prompts kept in the slots and in memory (its defaults).
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from benchmarks.peers.environments import run
from benchmarks.peers.folders import GGUF_BF16, GGUF_Q4, HOME
from benchmarks.peers.llama_cpp_python import SOURCE
from benchmarks.peers.server import Precision, Server
from shared.errors import UserError

BINARY = HOME / "llama.cpp" / "llama-server"
_THREADS = len(os.sched_getaffinity(0))
_OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "GGML_NATIVE": "ON",
    "BUILD_SHARED_LIBS": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_CURL": "OFF",
}


def install() -> None:
    """Fetch the source, compile the server (a quarter of an hour on two cores). Raises UserError."""
    if BINARY.exists():
        print("llama-server: installed", flush=True)
        return
    if shutil.which("cmake") is None:
        raise UserError("llama-server is compiled from source: install cmake and a C++ compiler, then try again")
    print(f"llama-server: compiling the llama.cpp of {SOURCE} …", flush=True)
    BINARY.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BINARY.parent) as scratch:
        source = _source(Path(scratch))
        build = Path(scratch) / "build"
        options = [f"-D{key}={value}" for key, value in _OPTIONS.items()]
        run(["cmake", "-S", str(source), "-B", str(build), *options], "cmake could not configure llama.cpp")
        target = ["--target", "llama-server", "--parallel", str(_THREADS)]
        run(["cmake", "--build", str(build), *target], "llama-server did not compile")
        shutil.move(build / "bin" / "llama-server", BINARY)


def _source(folder: Path) -> Path:
    """The unpacked source of llama.cpp."""
    download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", SOURCE]
    run([*download, "-d", str(folder)], f"pip could not fetch the source of {SOURCE}")
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    [source] = folder.glob("*/vendor/llama.cpp")
    return source


def _server(name: str, precision: Precision, model: Path) -> Server:
    def command(port: int) -> list[str]:
        return [
            *(str(BINARY), "--model", str(model), "--host", "127.0.0.1", "--port", str(port)),
            *("--threads", str(_THREADS), "--threads-batch", str(_THREADS), "--parallel", "8", "--kv-unified"),
            *("--ctx-size", "16384", "--flash-attn", "auto", "--cont-batching", "--no-webui"),
        ]

    def missing() -> str | None:
        if not BINARY.exists():
            return "llama-server is not compiled"
        return None if model.exists() else f"{model.name} is not written"

    # Nothing is aimed at in 4 bits but the single stream; all workloads would double the time.
    workloads = ["single"] if precision is Precision.FOUR_BITS else None
    title = f"llama-server, {'Q4_1' if precision is Precision.FOUR_BITS else precision}"
    return Server(name, title, precision, command, missing, workloads=workloads)


SERVERS = (
    _server("llama-server", Precision.BF16, GGUF_BF16),
    _server("llama-server-q4", Precision.FOUR_BITS, GGUF_Q4),
)
