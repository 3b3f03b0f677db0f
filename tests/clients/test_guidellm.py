"""guidellm as its users start it: every request of a run succeeds, and its report counts what the server generated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.clients.recorder import Recorder
from tests.clients.serving import own_python

REQUESTS, PROMPT_TOKENS, TOKENS = 4, 32, 6
_OF_TORCH = ("torch", "torchgen", "functorch", "sympy", "mpmath", "networkx", "nvidia", "triton")


@pytest.fixture(scope="module")
def torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rootstream's own torch: guidellm loads its data with it, and another would be a gigabyte more."""
    folder = tmp_path_factory.mktemp("torch")
    [packages] = own_python().parents[1].glob("lib/python3.*/site-packages")
    for name in _OF_TORCH:
        if (packages / name).exists():
            (folder / name).symlink_to(packages / name)
    return folder


@pytest.mark.parametrize(
    ("path", "profile"),
    [
        ("/v1/chat/completions", "kind=concurrent,streams=2"),
        ("/v1/completions", "kind=constant,rate=20"),
    ],
)
def test_a_run(recorder: Recorder, torch: Path, tokenizer: Path, tmp_path: Path, path: str, profile: str) -> None:
    out = tmp_path / "report.json"
    command = [
        *(str(Path(sys.executable).with_name("guidellm")), "run", "--disable-progress"),
        *("--backend", f"kind=openai_http,target={recorder.url},request_format={path}"),
        *("--profile", profile, "--constraint", f"kind=max_requests,count={REQUESTS}"),
        *("--tokenizer", f"kind=hf_auto,model={tokenizer}"),
        *("--data", f"kind=synthetic_text,prompt_tokens={PROMPT_TOKENS},output_tokens={TOKENS}"),
        *("--output", f"kind=json,path={out}"),
    ]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(torch)}, check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [benchmark] = json.loads(out.read_text())["benchmarks"]
    assert not benchmark["requests"]["errored"], benchmark["requests"]["errored"]
    succeeded: list[dict[str, Any]] = benchmark["requests"]["successful"]
    assert len(succeeded) == REQUESTS
    for request in succeeded:
        assert request["output_tokens"] == TOKENS, "ignore_eos holds, and usage says so"
        assert request["prompt_tokens"] >= PROMPT_TOKENS
        assert request["time_to_first_token_ms"] > 0
