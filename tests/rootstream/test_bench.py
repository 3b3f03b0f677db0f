"""`rootstream bench` beyond its named workloads: requests from files and by measure, rates, bounds, comparisons."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rootstream.bench import compare, datasets, run, slo
from rootstream.bench.datasets import Shape
from rootstream.bench.figures import Timeline, summarize
from rootstream.bench.load import poisson
from rootstream.bench.workloads import Chat, Completion
from rootstream.cli import main
from shared.errors import UserError
from tests.rootstream.commands import command
from tests.rootstream.openai_server import EchoServer, serving

USER = [{"role": "user", "content": "hello there"}]


# --- requests ------------------------------------------------------------------------------------


def file_of(folder: Path, *entries: Any, whole: bool = False) -> Path:
    path = folder / "asked.jsonl"
    path.write_text(json.dumps(entries) if whole else "\n\n".join(map(json.dumps, entries)) + "\n")
    return path


def read(path: Path, count: int | None = None, max_tokens: int | None = None, seed: int = 0) -> list[Any]:
    return list(datasets.from_file(path, count, max_tokens, seed=seed, concurrency=3).requests)


@pytest.mark.parametrize(
    ("entry", "request_"),
    [
        ("hello", Completion("hello", 128)),
        ({"prompt": "hello", "max_tokens": 7}, Completion("hello", 7)),
        ({"prompt": [5, 6]}, Completion([5, 6], 128)),
        ({"text": "hello", "output_tokens": 9}, Completion("hello", 9)),
        ({"messages": USER, "max_completion_tokens": 5}, Chat(USER, 5)),
        ({"custom_id": "a", "method": "POST", "url": "/x", "body": {"messages": USER}}, Chat(USER, 128)),
        (
            {
                "conversations": [
                    {"from": "human", "value": "hello there"},
                    {"from": "gpt", "value": "a b c d e f g h i j"},
                ]
            },
            Chat(USER, 13),
        ),
        (
            {"conversations": [{"from": "system", "value": "x"}, {"from": "user", "value": "hello there"}]},
            Chat(USER, 128),
        ),
        (
            {"conversation": [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "a"}]},
            Chat(USER, 4),
        ),
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_the_shapes_of_files(tmp_path: Path, entry: Any, request_: Any, whole: bool) -> None:
    path = file_of(tmp_path, entry, "more", whole=whole)
    assert read(path) == [request_, Completion("more", 128)]
    assert [request.max_tokens for request in read(path, max_tokens=3)] == [3, 3]


def test_a_part_of_a_file_by_seed(tmp_path: Path) -> None:
    path = file_of(tmp_path, *map(str, range(9)))
    assert [request.prompt for request in read(path, 3)] == ["0", "1", "2"]
    shuffled = [request.prompt for request in read(path, seed=5)]
    assert sorted(shuffled) == list(map(str, range(9))) != shuffled
    assert shuffled == [request.prompt for request in read(path, seed=5)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no prompt"),
        ('"a"\n{"b": 1}\n', "line 2: no prompt here"),
        ('"a"\n{b\n', "line 2: it is not JSON"),
        ('["a", 5]', "entry 2: no prompt"),
        ("5\n", "line 1: no prompt"),
        ('{"conversations": []}\n', "line 1: no prompt"),
        ('{"conversations": ["a", 5]}\n', "line 1: no prompt"),
        ('{"messages": []}\n', "line 1: no prompt"),
    ],
)
def test_what_is_no_dataset(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        read(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="no text"):
        read(path)
    with pytest.raises(UserError, match="No such file"):
        read(tmp_path / "none")


@given(st.integers(1, 30), st.integers(0, 30), st.integers(1, 4), st.integers(1, 9))
def test_prompts_by_measure(own: int, prefix: int, groups: int, count: int) -> None:
    shape = Shape(own + prefix, prefix, groups)
    made = datasets.synthetic(shape, count, 5, seed=1, vocab_size=5000, concurrency=2)
    assert made == datasets.synthetic(shape, count, 5, seed=1, vocab_size=5000, concurrency=2)
    prompts = [request.prompt for request in made.requests if isinstance(request, Completion)]
    assert [len(prompt) for prompt in prompts] == [own + prefix] * count
    assert len({tuple(prompt[:prefix]) for prompt in prompts}) <= groups
    for first, second in itertools.pairwise(prompts[::groups]):
        assert first[:prefix] == second[:prefix]


def test_departures_are_those_of_a_rate() -> None:
    times = list(itertools.islice(poisson(50, seed=2), 2000))
    assert times == sorted(times)
    assert times == list(itertools.islice(poisson(50, seed=2), 2000))
    assert times[-1] == pytest.approx(40, rel=0.1)


# --- bounds and comparisons ----------------------------------------------------------------------


def test_bounds_are_read() -> None:
    assert slo.parse("ttft:500, ITL:50,e2e:5000") == slo.Slo(500, 50, 5000)
    assert slo.parse("tpot:5") == slo.Slo(itl=5)
    for text in ("", "ttft", "ttft:x", "speed:5", "ttft:5,", "ttft:nan", "ttft:-1"):
        with pytest.raises(UserError, match="is no bound"):
            slo.parse(text)


def test_goodput_counts_what_keeps_every_bound() -> None:
    timelines = [
        Timeline(0.0, [0.1, 0.2, 0.3], 0.4, 5, 0, 3),  # ttft 100, itl 100, e2e 400
        Timeline(0.0, [0.6, 0.61, 0.62], 0.7, 5, 0, 3),  # ttft 600
        Timeline(0.0, [0.1, 0.5, 0.9], 1.0, 5, 0, 3),  # itl 400, e2e 1000
        Timeline(0.0, [], 2.0, 0, 0, 0, error="refused"),
    ]
    for bounds, kept in (("ttft:500", 2), ("itl:150", 2), ("ttft:500,itl:150", 1), ("e2e:400", 1), ("e2e:1", 0)):
        assert summarize(timelines, slo.parse(bounds)).goodput == kept / 2.0, bounds
    assert summarize(timelines).goodput == summarize(timelines).requests_per_s == 1.5


def test_a_comparison_says_what_became_better(tmp_path: Path) -> None:
    before = {"a": {"requests_per_s": 10.0, "ttft_p50": 100.0, "itl_p50": None, "failed": 0, "e2e_p50": 50.0}, "b": {}}
    after = {"a": {"requests_per_s": 12.0, "ttft_p50": 150.0, "itl_p50": 5.0, "failed": 2, "e2e_p50": 50.5}}
    for name, workloads in (("before", before), ("after", after)):
        (tmp_path / name).write_text(json.dumps({"workloads": workloads}))
    console = Console(width=120, record=True, force_terminal=True)
    compare.show(console, compare.read(tmp_path / "before"), compare.read(tmp_path / "after"))
    shown = re.sub(r"m +", "m", console.export_text(styles=True))  # without what aligns a column
    lines = {line.split("  ")[4].strip(): line for line in shown.splitlines() if line.startswith("a ")}
    assert set(lines) == {"requests/s", "TTFT p50, ms", "failed", "E2E p50, ms"}, "what both have"
    assert "\x1b[32m+20.0%" in lines["requests/s"]
    assert "\x1b[31m+50.0%" in lines["TTFT p50, ms"]
    assert "\x1b[31mnew" in lines["failed"]
    assert "\x1b[2m+1.0%" in lines["E2E p50, ms"], "less than that says nothing"
    with pytest.raises(UserError, match="no workload is in both: b and a"):
        compare.show(console, {"b": {}}, {"a": {}})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"workloads": 5}', '{"workloads": {"a": 5}}'])
def test_what_is_no_result(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").write_text(text)
    with pytest.raises(UserError, match="is no result"):
        compare.read(tmp_path / "x")
    with pytest.raises(UserError, match="cannot be read"):
        compare.read(tmp_path / "none")


# --- servers that know less -----------------------------------------------------------------------


class Strict(EchoServer):
    """Refuses fields that it does not know, as servers of some vendors do; and has nothing but chats where told."""

    def __init__(self, *, unknown: tuple[str, ...] = (), chats_only: bool = False, takes_ids: bool = True) -> None:
        super().__init__()
        self._unknown = unknown
        self._chats_only = chats_only
        self._takes_ids = takes_ids

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if self._chats_only and "prompt" in body:
            return web.json_response({"error": {"message": "not found"}}, status=404)
        if found := [name for name in self._unknown if name in body]:
            return web.json_response({"error": {"message": f"unknown: {found}"}}, status=400)
        if not self._takes_ids and isinstance(body.get("prompt"), list):
            return web.json_response({"error": {"message": "prompt must be text"}}, status=422)
        return await super()._completion(request)


@pytest.mark.parametrize(
    ("server", "fields"),
    [
        (Strict(), {"prompt", "ignore_eos", "max_tokens"}),
        (Strict(takes_ids=False), {"prompt", "ignore_eos", "max_tokens"}),
        (Strict(unknown=("ignore_eos",)), {"prompt", "max_tokens"}),
        (Strict(chats_only=True, unknown=("ignore_eos", "max_tokens")), {"messages", "max_completion_tokens"}),
    ],
)
async def test_a_server_is_asked_as_it_understands(server: Strict, fields: set[str]) -> None:
    plan = run.Plan(shape=Shape(10, 4, 2), requests=3, max_tokens=2, concurrency=2, warm_up=1)
    async with serving(server) as url:
        results = await run.measure(url, plan)
    figures = results["synthetic"]
    assert (figures.requests, figures.failed) == (3, 0)
    asked = [body for body in server.bodies if body.get("stream")]
    assert len(asked) == 4, "with the warm-up"
    for body in asked:
        assert set(body) == fields | {"model", "temperature", "stream", "stream_options"}
        if "prompt" in body:
            assert isinstance(body["prompt"], str) is not server._takes_ids


# --- as a command ---------------------------------------------------------------------------------


async def test_a_file_at_a_rate_with_bounds_saved_and_compared(tmp_path: Path) -> None:
    path = file_of(tmp_path, {"messages": USER}, "hello", {"prompt": [5, 6, 7], "max_tokens": 4}, {"messages": USER})
    server = EchoServer()
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    words = [
        "bench",
        "--dataset",
        str(path),
        "--rate",
        "200",
        "--slo",
        "ttft:60000",
        "--warm-up",
        "2",
        "--max-tokens",
        "3",
    ]
    async with serving(server) as url:
        code, out, err = await command(*words, "--url", url, "--requests", "3", "--output", str(first))
        assert (code, err) == (0, "")
        assert "goodput" in out
        again = await command(
            *words, "--url", url, "--requests", "3", "--output", str(second), "--baseline", str(first)
        )
    assert again.code == 0
    assert "change" in again.out
    report = json.loads(first.read_text())
    assert (report["rate"], report["slo"], report["requests"]) == (200.0, {"ttft": 60000.0}, 3)
    figures = report["workloads"]["asked"]
    assert (figures["requests"], figures["failed"]) == (3, 0)
    assert figures["goodput"] == figures["requests_per_s"] > 0
    assert len([body for body in server.bodies if body.get("stream")]) == 10, "twice three, with two before each"
    compared = await command("bench", "--compare", str(first), str(second))
    assert compared.code == 0
    assert "goodput, requests/s" in compared.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("single", "--dataset", "x"), "exclude each other"),
        (("single", "--prompt-tokens", "5"), "exclude each other"),
        (("--prefix-tokens", "5"), "--prompt-tokens"),
        (("--prompt-tokens", "5", "--prefix-tokens", "6"), "--prompt-tokens"),
        (("--slo", "speed:5"), "is no bound"),
        (("single", "--baseline", "/nowhere/x"), "cannot be read"),
        (("single", "--compare", "/nowhere/x", "/nowhere/y"), "cannot be read"),
    ],
)
def test_what_does_not_go_together(words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *words, "--url", "http://127.0.0.1:9"])
    assert ended.value.code == 2
    assert said in " ".join(capsys.readouterr().err.split())
