"""The comparison with peers, without any: the table, the file of results, the formats of the model, starts and ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from safetensors.torch import load_file

from benchmarks.peers import load, models
from benchmarks.peers import results as store
from benchmarks.peers.agreement import agreement
from benchmarks.peers.aims import AIMS
from benchmarks.peers.memory import tree_pss_bytes
from benchmarks.peers.results import Results, Visit
from benchmarks.peers.server import Precision, Server, running
from benchmarks.peers.table import counterpart, table
from gpu_worker.gguf_weights import GGUFWeights
from gpu_worker.loader import open_weights
from gpu_worker.safetensors_weights import SafetensorsWeights
from rootstream.bench.figures import Timeline
from rootstream.bench.workloads import ORDER_SCHEMA, Completion, Conversation, Structured
from shared.errors import UserError
from shared.model_files import ModelFiles
from tests.toy import make_toy_model


def server(name: str, precision: Precision = Precision.BF16, command: list[str] | None = None) -> Server:
    return Server(name, name.upper(), precision, lambda port: [*(command or []), str(port)], lambda: None)


OURS, OURS_BF16, VLLM = server("ours"), server("ours-bf16"), server("vllm")
LLAMA, LLAMA_Q4 = server("llama-server"), server("llama-server-q4", Precision.FOUR_BITS)


def results(*visits: Visit) -> Results:
    return Results(machine="m", versions={"vllm": "1"}, scale=1.0, seed=0, visits=list(visits))


def visit(name: str, round: int = 0, *, texts: list[str] | None = None, ready_s: float = 4.0, **rates: float) -> Visit:
    figures: dict[str, dict[str, Any]] = {workload: {"requests_per_s": rate} for workload, rate in rates.items()}
    return Visit(
        round=round, server=name, began="", load_before=0.0, ready_s=ready_s, texts=texts or [], workloads=figures
    )


# --- table -----------------------------------------------------------------------------------------


def line(text: str, title: str) -> list[str]:
    [found] = [row for row in text.splitlines() if row.startswith(f"| {title}")]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_ratios_are_of_medians_over_rounds() -> None:
    measured = results(
        *(visit("ours-bf16", round, distinct=rate) for round, rate in enumerate((9.0, 3.0, 4.0))),
        *(visit("vllm", round, distinct=rate) for round, rate in enumerate((1.0, 2.0, 50.0))),
    )
    text = table(measured, [OURS_BF16, VLLM])
    assert line(text, "distinct") == ["distinct, requests/s", "4", "2: **2.00×** (≥ 1.8)"]
    assert line(text, "rounds") == ["rounds", "3", "3"]


def test_missed_aims_are_marked_whichever_way_is_better() -> None:
    measured = results(
        visit("ours-bf16", ready_s=8.0, distinct=3.0), visit("vllm", distinct=2.0), visit("llama-server")
    )
    text = table(measured, [OURS_BF16, VLLM, LLAMA])
    assert line(text, "distinct")[2] == "2: **1.50×** ✗ (≥ 1.8)"
    assert line(text, "start to ready")[2:] == ["4: **2.00×** ✗ (≤ 1)", "4: **2.00×** (≤ 2)"]


def test_what_was_not_measured_is_a_dash() -> None:
    text = table(results(visit("vllm", distinct=2.0)), [OURS, VLLM])
    assert line(text, "shared-prefix")[1:] == ["–"]
    assert line(text, "distinct")[1:] == ["2"]  # nothing of ours to compare with


def test_like_is_compared_with_like() -> None:
    assert counterpart(VLLM, [OURS, OURS_BF16]) is OURS_BF16
    assert counterpart(LLAMA_Q4, [OURS, OURS_BF16]) is OURS
    four_bits = server("ours-q4", Precision.FOUR_BITS)
    assert counterpart(LLAMA_Q4, [OURS, OURS_BF16, four_bits]) is four_bits
    assert counterpart(VLLM, [LLAMA]) is None


def test_wrong_answers_are_counted() -> None:
    measured = results(visit("vllm"))
    measured.visits[0].workloads["json"] = {"requests_per_s": 1.0, "invalid": 2, "failed": 1}
    assert line(table(measured, [VLLM]), "invalid")[1] == "3"


def test_every_aim_names_a_figure() -> None:
    figures = load.summarize([])._fields
    for aim in AIMS:
        assert aim.field in (Visit.__struct_fields__ if aim.workload is None else figures)


def test_agreement_counts_the_common_beginning() -> None:
    found = agreement(results(visit("ours-bf16", texts=["abcd", "x"]), visit("vllm", texts=["abxx", "x"])), "ours-bf16")
    assert found == {"ours-bf16": "4/4, 1/1", "vllm": "2/4, 1/1"}
    assert agreement(results(visit("vllm", texts=["a"])), "ours-bf16") == {}


# --- results ---------------------------------------------------------------------------------------


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "peers.json"
    store.write(path, results(visit("vllm", 0, distinct=1.0), visit("vllm", 0, chat=1.0)))
    found = store.opened(path, results(), fresh=False)
    assert found.missing(0, "vllm", ["distinct", "chat", "json"]) == ["json"]
    assert found.missing(1, "vllm", ["distinct"]) == ["distinct"]
    assert store.opened(path, results(), fresh=True).visits == []


def test_figures_under_other_conditions_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    store.write(path, results())
    other = results()
    other.scale = 0.5
    with pytest.raises(UserError, match="--fresh"):
        store.opened(path, other, fresh=False)
    path.write_text("{}")
    with pytest.raises(UserError, match="no results"):
        store.read(path)
    with pytest.raises(UserError, match="measure first"):
        store.read(tmp_path / "absent.json")


# --- load ------------------------------------------------------------------------------------------


def test_scale_changes_only_how_many() -> None:
    whole, part = load.workload("distinct", 1, 1.0), load.workload("distinct", 1, 0.25)
    assert list(part.requests) == list(whole.requests[:8])
    assert len(load.workload("json", 0, 0.001).requests) == 1


def test_warm_ups_are_short() -> None:
    completions = load.warm_up(load.workload("distinct", 0, 1.0)).requests
    assert {(type(request), request.max_tokens) for request in completions} == {(Completion, 8)}
    [first, *_] = load.warm_up(load.workload("chat", 0, 1.0)).requests
    assert isinstance(first, Conversation)
    assert len(first.questions) == 1
    assert len(load.warm_up(load.workload("json", 0, 1.0)).requests) == 1


def test_answers_that_break_the_schema_are_counted() -> None:
    asked = load.workload("json", 0, 1.0)
    assert all(isinstance(request, Structured) for request in asked.requests)
    values = {"string": "x", "boolean": True}
    good = json.dumps(
        {
            name: field["enum"][0] if "enum" in field else values[field["type"]]
            for name, field in ORDER_SCHEMA["properties"].items()
        }
    )
    texts = [good, good[:-1], '{"a": "\n"}', "{}", good]
    timelines = [Timeline(0, [], 1, 0, 0, 1, text=text) for text in texts]
    timelines.append(Timeline(0, [], 1, 0, 0, 0, error="refused"))  # failed, not invalid
    assert load.invalid_answers(asked, timelines) == 3


# --- servers ---------------------------------------------------------------------------------------

WEB = """
import subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(child.pid).encode())
HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.peers.server.LOGS", tmp_path / "logs")


def test_a_server_ends_with_its_children() -> None:
    with running(server("web", command=[sys.executable, "-c", WEB]), 60) as at:
        children = psutil.Process(at.pid).children()
        assert len(children) == 1
        assert at.ready_s > 0
        assert tree_pss_bytes(at.pid) > 2**20
    deadline = time.monotonic() + 20
    while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert tree_pss_bytes(at.pid) == 0


def test_a_server_that_does_not_start_tells_why() -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such model')"]
    with pytest.raises(UserError, match="no such model"), running(server("broken", command=command), 60):
        pass
    silent = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(UserError, match="not ready in time"), running(server("silent", command=silent), 0.5):
        pass


def test_a_server_that_is_not_installed_says_what_to_do() -> None:
    absent = server("absent")._replace(missing=lambda: "absent is not installed")
    with pytest.raises(UserError, match=r"benchmarks\.peers install"), running(absent, 1):
        pass


@pytest.mark.slow
def test_the_command_names_mistakes(tmp_path: Path) -> None:
    words = ["run", "--servers", "vlm", "--output", str(tmp_path / "r.json")]
    command = [sys.executable, "-m", "benchmarks.peers", *words]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no 'vlm'" in done.stderr


# --- the model -------------------------------------------------------------------------------------


def toy_gguf(path: Path) -> dict[str, np.ndarray]:
    """A Llama of one layer, partly quantised; its weights, dequantised, as llama.cpp orders them."""
    random = np.random.default_rng(0)
    writer = GGUFWriter(path, "llama")
    for key, value in {
        "context_length": 64,
        "embedding_length": 32,
        "feed_forward_length": 64,
        "block_count": 1,
    }.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_uint32("llama.attention.head_count", 4)
    writer.add_uint32("llama.attention.head_count_kv", 2)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_float32("llama.rope.freq_base", 10_000.0)
    writer.add_file_type(3)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    shapes = {
        "token_embd": (96, 32), "blk.0.attn_q": (32, 32), "blk.0.attn_k": (16, 32), "blk.0.attn_v": (16, 32),
        "blk.0.attn_output": (32, 32), "blk.0.ffn_gate": (64, 32), "blk.0.ffn_up": (64, 32), "blk.0.ffn_down": (32, 64),
    }  # fmt: skip
    kept: dict[str, np.ndarray] = {}
    for name, shape in shapes.items():
        plain = random.standard_normal(shape).astype(np.float32)
        writer.add_tensor(
            f"{name}.weight", quantize(plain, GGMLQuantizationType.Q8_0), raw_dtype=GGMLQuantizationType.Q8_0
        )
        kept[name] = plain
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return kept


def test_both_formats_hold_the_same_weights(tmp_path: Path) -> None:
    source, bf16 = tmp_path / "toy.gguf", tmp_path / "bf16.gguf"
    toy_gguf(source)
    models.write_gguf(source, bf16)
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "tokenizer.json").write_text("{}")
    weights = open_weights(ModelFiles("toy", "gguf", source))
    models.write_huggingface(weights, tokenizer, tmp_path / "hf")
    whole, folder = GGUFWeights(bf16), SafetensorsWeights(tmp_path / "hf")
    names = models.tensor_names(weights.config)
    assert sorted(load_file(tmp_path / "hf" / "model.safetensors")) == sorted(names)
    for name in names:
        expected = weights.tensor(name).to(torch.bfloat16)
        torch.testing.assert_close(whole.tensor(name).to(torch.bfloat16), expected, rtol=0, atol=0)
        torch.testing.assert_close(folder.tensor(name), expected, rtol=0, atol=0)
    assert (tmp_path / "hf" / "tokenizer.json").exists()


def test_the_configuration_survives(tmp_path: Path) -> None:
    config = open_weights(ModelFiles("toy", "huggingface", make_toy_model(tmp_path / "toy"))).config
    written = tmp_path / "written"
    written.mkdir()
    (written / "config.json").write_text(json.dumps(models.huggingface_config(config)))
    (written / "model.safetensors").write_bytes((tmp_path / "toy" / "model.safetensors").read_bytes())
    assert SafetensorsWeights(written).config == config
