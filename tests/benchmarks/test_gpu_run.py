"""The GPU benchmark tried on a CPU with a toy model: every section runs, and what it finds has the right names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu.aims import AIMS
from benchmarks.gpu.isolation import run
from benchmarks.gpu.options import Options
from benchmarks.gpu.rows import Row
from benchmarks.gpu.sections import sections
from benchmarks.gpu.sizes import FULL, SMALL, Sizes

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def options(toy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Options:
    return Options("cpu", SMALL, str(toy_model), str(tmp_path_factory.mktemp("scratch")))


def keys_of_aims(sizes: Sizes) -> set[str]:
    first, *others = sizes.shapes
    rows, context = sizes.decodes[0]
    busy, busy_context = sizes.decodes[len(sizes.decodes) // 2]
    streams = sizes.streams[len(sizes.streams) // 2]
    return {
        f"decode/{first}/{rows}x{context}",
        f"decode/{first}/{busy}x{busy_context}",
        f"prefill/{first}/{sizes.prefill}",
        f"decode/{(others or [first])[0]}/{rows}x{context}",
        f"server/{first}/gap, {streams} rows",
        f"server/{first}/constrained over free",
        f"sharing/{max(sizes.degrees)}x{sizes.prefix}/speedup",
    }


def test_aims_are_about_rows_that_are_measured() -> None:
    assert {aim.key for aim in AIMS} == keys_of_aims(FULL)


def test_all_sections_but_the_server_find_something(options: Options) -> None:
    found: list[Row] = []
    for section in sections(SMALL):
        if not section.name.startswith("server"):
            before = len(found)
            section.measure(options, found.append)
            assert len(found) > before, section.name
    assert all(row.value > 0 for row in found)
    keys = [row.key for row in found]
    assert len(set(keys)) == len(keys)
    assert {key for key in keys_of_aims(SMALL) if not key.startswith("server")} <= set(keys)


@pytest.mark.slow
def test_the_command_measures_a_server_and_writes_what_it_finds(toy_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--tiny", "--tokenizer", str(toy_model)]
    command += ["--only", "device", "--only", "server/tiny", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    report = json.loads(output.read_text())
    assert report["errors"] == {}
    keys = {row["key"] for row in report["rows"]}
    assert {key for key in keys_of_aims(SMALL) if key.startswith("server")} <= keys
    assert "device/copy" in keys
    assert all(aim["aim"] in done.stdout for aim in report["aims"])


def test_a_section_that_fails_says_why_and_one_that_hangs_is_stopped(options: Options) -> None:
    failed = run("no such section", options, 60)
    assert failed.rows == []
    assert "StopIteration" in failed.error
    stopped = run("device", options, 0.2)
    assert stopped.error == "stopped after 0 s"
