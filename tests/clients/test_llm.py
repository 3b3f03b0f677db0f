"""Simon Willison's ``llm``, as its users have it: a file extra-openai-models.yaml, and the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.recorder import Recorder
from tests.clients.serving import MODEL, SCRIPTED

MODELS = """
- model_id: small
  model_name: {model}
  api_base: {url}/v1
  supports_schema: true
  supports_tools: true
- model_id: small-completion
  model_name: {model}
  api_base: {url}/v1
  completion: true
- model_id: agent
  model_name: {scripted}
  api_base: {scripted_url}/v1
  supports_tools: true
"""

Llm = Callable[..., str]


@pytest.fixture
def llm(tmp_path: Path, recorder: Recorder, scripted: Recorder) -> Llm:
    models = MODELS.format(model=MODEL, url=recorder.url, scripted=SCRIPTED, scripted_url=scripted.url)
    (tmp_path / "extra-openai-models.yaml").write_text(models)

    def run(*arguments: str) -> str:
        command = [str(Path(sys.executable).with_name("llm")), *arguments]
        environment = os.environ | {"LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "none"}
        done = subprocess.run(
            command, env=environment, check=False, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_models_are_listed(llm: Llm) -> None:
    assert "small" in llm("models")


@pytest.mark.parametrize("how", [(), ("--no-stream",)])
def test_a_prompt(llm: Llm, how: tuple[str, ...]) -> None:
    assert llm("-m", "small", *how, "-o", "max_tokens", "16", "-o", "temperature", "0", "-s", "Be brief.", "Say hello.")


def test_a_completion(llm: Llm) -> None:
    assert llm("-m", "small-completion", "-o", "max_tokens", "8", "One, two, three,")


def test_a_conversation_goes_on(llm: Llm) -> None:
    llm("-m", "small", "-o", "max_tokens", "8", "Say hello.")
    assert llm("-c", "-o", "max_tokens", "8", "And goodbye.")


def test_a_schema(llm: Llm) -> None:
    answer = llm(
        "-m", "small", "-o", "max_tokens", "300", "-o", "temperature", "0", "--schema", "age int", "Invent a dog."
    )
    assert isinstance(json.loads(answer)["age"], int)


def test_a_tool_is_called_and_its_result_used(llm: Llm) -> None:
    function = "def get_weather(location: str) -> str:\n    return 'sunny in ' + location"
    answer = llm("-m", "agent", "--functions", function, "--td", "Weather?")
    assert "It is sunny there, the tool says." in answer
