"""llama-cpp-python's server: llama.cpp compiled for this machine, one request at a time.

A new request must not end the one that is running, and states of past prompts are kept, which is what it has for
prefixes. It takes text only, does not end a stream with a usage, and does not know `ignore_eos`: instead the two tokens
that end an answer are made unlikely. It multiplies repeated tokens' logits by 1.1 unless told otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.peers.environments import Environment
from benchmarks.peers.folders import GGUF_BF16, GGUF_Q4
from benchmarks.peers.server import Precision, Server
from rootstream.bench.load import Dialect

SOURCE = "llama-cpp-python==0.3.36"
_THREADS = len(os.sched_getaffinity(0))

ENVIRONMENT = Environment(
    "llama-cpp-python",
    requirements=(f"llama-cpp-python[server]=={SOURCE.partition('==')[2]}",),
    module="llama_cpp.server",
    build={"CMAKE_ARGS": "-DGGML_NATIVE=ON", "CMAKE_BUILD_PARALLEL_LEVEL": str(_THREADS)},
)


def _format(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "json_object", "schema": schema}


DIALECT = Dialect(
    always={"repeat_penalty": 1.0},
    whole_length={"logit_bias": {"0": -100, "2": -100}},  # <|endoftext|> and <|im_end|> of SmolLM2
    response_format=_format,
    tells_usage=False,
)


def _server(name: str, precision: Precision, model: Path) -> Server:
    def command(port: int) -> list[str]:
        return [
            *(str(ENVIRONMENT.python), "-m", "llama_cpp.server", "--model", str(model), "--host", "127.0.0.1"),
            *("--port", str(port), "--n_ctx", "8192", "--n_batch", "512", "--logits_all", "false"),
            *("--n_threads", str(_THREADS), "--n_threads_batch", str(_THREADS), "--flash_attn", "true"),
            *("--cache", "true", "--interrupt_requests", "false", "--verbose", "false"),
        ]

    def missing() -> str | None:
        return ENVIRONMENT.missing() or (None if model.exists() else f"{model.name} is not written")

    # Nothing is aimed at in 4 bits but the single stream; all workloads would double the time.
    workloads = ["single"] if precision is Precision.FOUR_BITS else None
    title = f"llama-cpp-python, {'Q4_1' if precision is Precision.FOUR_BITS else precision}"
    return Server(
        name, title, precision, command, missing, ready_path="/v1/models", dialect=DIALECT, workloads=workloads
    )


SERVERS = (
    _server("llama-cpp-python", Precision.BF16, GGUF_BF16),
    _server("llama-cpp-python-q4", Precision.FOUR_BITS, GGUF_Q4),
)
