"""lm-eval's local-completions: every log-likelihood and every generated text of small tasks is transformers' own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import recorded
from tests.clients.recorder import Recorder
from tests.clients.serving import MODEL, own_oracle

TASKS = ("tiny_choice", "tiny_generate", "tiny_rolling")
SOURCES = Path(__file__).with_name("lm_eval_tasks")

Samples = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def exact() -> Iterator[Recorder]:
    """The packaged model in float32."""
    with recorded("--dtype", "float32") as recorder:
        yield recorder


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """lm_eval_tasks, with paths that do not depend on where lm-eval is started."""
    folder = tmp_path_factory.mktemp("tasks")
    for source in SOURCES.iterdir():
        (folder / source.name).write_text(source.read_text().replace("__FOLDER__", str(folder)))
    return folder


def evaluated(server: Recorder, tasks: Path, out: Path, *, batch_size: int = 1, **options: Any) -> Samples:
    """The samples that ``lm_eval run`` writes, by task."""
    model = {"model": MODEL, "base_url": f"{server.url}/v1/completions", "max_retries": 1} | options
    command = [
        str(Path(sys.executable).with_name("lm_eval")),
        *("run", "--model", "local-completions"),
        *("--model_args", ",".join(f"{name}={value}" for name, value in model.items())),
        *("--include_path", str(tasks), "--tasks", ",".join(TASKS)),
        *("--output_path", str(out), "--log_samples", "--batch_size", str(batch_size)),
    ]
    environment = os.environ | {"HF_HOME": str(out / "cache"), "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, check=False, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    files = {task: next(out.rglob(f"samples_{task}_*.jsonl")) for task in TASKS}
    return {task: [json.loads(line) for line in file.read_text().splitlines()] for task, file in files.items()}


def asked(samples: Samples, task: str) -> list[list[Any]]:
    """The arguments of every request, in order."""
    return [list(given.values()) for sample in samples[task] for given in sample["arguments"].values()]


def answered(samples: Samples, task: str) -> list[Any]:
    """The first answer to every request, in order."""
    return [answers[0] for sample in samples[task] for answers in sample["resps"]]


@pytest.fixture(scope="module")
def samples(exact: Recorder, tasks: Path, tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Samples:
    out = tmp_path_factory.mktemp("out")
    return evaluated(exact, tasks, out, tokenizer=tokenizer, tokenizer_backend="huggingface", num_concurrent=4)


@pytest.fixture(scope="module")
def expected(samples: Samples) -> dict[str, list[Any]]:
    rolling = [["", text] for (text,) in asked(samples, "tiny_rolling")]
    generating = [
        [context, given["until"], given["max_gen_toks"]] for context, given in asked(samples, "tiny_generate")
    ]
    questions = {"likelihoods": asked(samples, "tiny_choice") + rolling, "generated": generating}
    return json.loads(own_oracle("answer", given=json.dumps(questions)))


def test_log_likelihoods_are_those_of_transformers(samples: Samples, expected: dict[str, list[Any]]) -> None:
    found = [(float(logprob), greedy == "True") for logprob, greedy in answered(samples, "tiny_choice")]
    right = expected["likelihoods"][: len(found)]
    assert [logprob for logprob, _ in found] == pytest.approx([logprob for logprob, _ in right], abs=1e-3)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in right]
    assert len(found) == 11


def test_rolling_log_likelihoods_are_those_of_transformers(samples: Samples, expected: dict[str, list[Any]]) -> None:
    found = [float(logprob) for logprob in answered(samples, "tiny_rolling")]
    right = [logprob for logprob, _ in expected["likelihoods"][-len(found) :]]
    assert found == pytest.approx(right, abs=1e-3)


def test_generated_texts_are_those_of_transformers(samples: Samples, expected: dict[str, list[Any]]) -> None:
    assert answered(samples, "tiny_generate") == expected["generated"]
    assert any(expected["generated"])


def test_batches_and_texts_for_token_ids_change_nothing(
    exact: Recorder, tasks: Path, tokenizer: Path, samples: Samples, tmp_path: Path
) -> None:
    options = {"tokenizer": tokenizer, "tokenizer_backend": "huggingface"}
    batched = evaluated(exact, tasks, tmp_path, **options, batch_size=4, tokenized_requests=False)
    first, second = ([float(a[0]) for a in answered(s, "tiny_choice")] for s in (samples, batched))
    assert first == pytest.approx(second, abs=1e-3)
    assert answered(batched, "tiny_generate") == answered(samples, "tiny_generate")
