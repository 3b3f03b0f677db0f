"""The whole server on the device: it starts, answers, keeps to a grammar, and hits its cache."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from benchmarks.serve import server
from shared.config import Settings


@pytest.mark.slow
def test_a_toy_model_is_served(toy_model: Path) -> None:
    with server([str(toy_model), "--device", "cuda", "--kv-memory", "256MiB"]) as url:

        def ask(**more: Any) -> dict[str, Any]:
            body = {"model": toy_model.name, "prompt": "the quick brown fox " * 8, "temperature": 0, **more}
            request = urllib.request.Request(
                f"{url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())

        first = ask(max_tokens=40, ignore_eos=True)
        again = ask(max_tokens=40, ignore_eos=True)
        held = ask(max_tokens=40, regex="[0-9]{6}")
    assert first["usage"]["completion_tokens"] == 40
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] >= Settings().page_size
    assert held["choices"][0]["text"].isdigit()
    assert len(held["choices"][0]["text"]) == 6
