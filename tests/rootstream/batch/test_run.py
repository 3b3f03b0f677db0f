"""`rootstream run-batch` as a process against servers that answer, refuse, break off and go away."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.rootstream.batch.scripted_server import ScriptedServer, echo, serving
from tests.rootstream.commands import PATIENCE_S, command, ended, start
from tests.stack import free_port


def write_input(path: Path, count: int, **changes: Any) -> Path:
    with path.open("w") as file:
        for i in range(count):
            fields = {"custom_id": f"id-{i}", "method": "POST", "url": "/v1/completions", "body": {"prompt": f"p{i}"}}
            print(json.dumps(fields | changes), file=file)
    return path


def results(path: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({result["custom_id"] for result in found}) == len(found)
    return {result["custom_id"]: result for result in found}


async def says(process: asyncio.subprocess.Process, text: bytes) -> None:
    """Wait for a line that holds ``text``."""
    assert process.stderr is not None
    while text not in (line := await asyncio.wait_for(process.stderr.readline(), PATIENCE_S)):
        assert line, "it ended without saying so"


async def test_each_request_has_its_answer(tmp_path: Path) -> None:
    source, output = write_input(tmp_path / "in.jsonl", 30), tmp_path / "out.jsonl"
    server = ScriptedServer()
    async with serving(server) as url:
        run = await command("run-batch", "-i", str(source), "-o", str(output), "--url", url, "--concurrency", "4")
    assert (run.code, run.out) == (0, "")
    assert "30 done, 0 failed, 0 left" in run.err
    assert "60 prompt and 90 generated tokens" in run.err
    found = results(output)
    assert {key: value["response"]["body"]["echo"] for key, value in found.items()} == {
        f"id-{i}": f"p{i}" for i in range(30)
    }
    assert {value["response"]["status_code"] for value in found.values()} == {200}
    assert {value["response"]["request_id"] for value in found.values()} == {"r"}
    assert server.most_under_way <= 4


async def test_a_run_that_was_killed_is_gone_on_with(tmp_path: Path) -> None:
    source, output = write_input(tmp_path / "in.jsonl", 20), tmp_path / "out.jsonl"
    words = ("run-batch", "-i", str(source), "-o", str(output), "--concurrency", "2", "--order", "input")
    server = ScriptedServer()
    async with serving(server) as url:
        process = await start(*words, "--url", url)
        while not output.exists() or output.read_bytes().count(b"\n") < 3:
            await asyncio.sleep(0.001)
        process.kill()
        await process.communicate()
        kept = output.read_bytes()
        there = kept[: kept.rfind(b"\n") + 1]
        output.write_bytes(there + b'{"id": "batch_req_1", "custom_id": "id-19", "resp')
        server.asked.clear()
        run = await command(*words, "--url", url)
    assert run.code == 0
    assert list(results(output)) == [f"id-{i}" for i in range(20)]
    assert sum(server.asked.values()) == 20 - there.count(b"\n")
    again = await command(*words, "--url", url)
    assert again.code == 2, "the server is away, and nobody is told that all went well"


async def test_what_is_full_is_waited_for_and_what_breaks_off_is_asked_again(tmp_path: Path) -> None:
    def answer(body: dict[str, Any], before: int) -> web.Response | None:
        if before == 0 and body["prompt"] == "p1":
            return web.json_response({"error": {"message": "full"}}, status=429, headers={"Retry-After": "1"})
        if before == 0 and body["prompt"] == "p2":
            return web.json_response({"error": {"message": "not ready"}}, status=503)
        if before == 0 and body["prompt"] == "p3":
            return None
        if before < 2 and body["prompt"] == "p4":
            return web.json_response({"error": {"message": "it failed"}}, status=500)
        if body["prompt"] == "p5":
            return web.Response(status=502, text="bad\ngateway")
        if body["prompt"] == "p6":
            return web.json_response({"error": {"message": "too long"}}, status=400)
        return echo(body, before)

    source, output, errors = write_input(tmp_path / "in.jsonl", 8), tmp_path / "out.jsonl", tmp_path / "err.jsonl"
    server = ScriptedServer(answer)
    words = ["run-batch", "-i", str(source), "-o", str(output), "--error-file", str(errors), "--tries", "3"]
    async with serving(server) as url:
        run = await command(*words, "--url", url)
        assert run.code == 1
        assert "6 done, 2 failed, 0 left" in run.err
        assert server.asked == {"p0": 1, "p1": 2, "p2": 2, "p3": 2, "p4": 3, "p5": 3, "p6": 1, "p7": 1}
        assert set(results(output)) == {f"id-{i}" for i in (0, 1, 2, 3, 4, 7)}
        failed = results(errors)
        assert {key: value["response"]["status_code"] for key, value in failed.items()} == {"id-5": 502, "id-6": 400}
        assert failed["id-5"]["response"]["body"] == "bad\ngateway"
        assert failed["id-6"]["response"]["body"] == {"error": {"message": "too long"}}
        assert failed["id-6"]["error"] is None

        server.answer = echo
        server.asked.clear()
        assert (await command(*words, "--url", url)).code == 1, "failures stay, and are told"
        assert not server.asked
        assert (await command(*words, "--url", url, "--retry-failed")).code == 0
        assert server.asked == {"p5": 1, "p6": 1}
    assert len(results(output)) == 8
    assert results(errors) == {}


async def test_bad_lines_are_told_before_anything_is_sent(tmp_path: Path) -> None:
    source = write_input(tmp_path / "in.jsonl", 3)
    with source.open("a") as file:
        file.write('\n{"custom_id": "id-1", "method": "POST", "url": "/v1/completions", "body": {}}\nnonsense\n')
    server = ScriptedServer()
    async with serving(server) as url:
        run = await command("run-batch", "-i", str(source), "-o", str(tmp_path / "out.jsonl"), "--url", url)
    assert run.code == 2
    assert "line 5: custom_id 'id-1' is that of line 2" in run.err
    assert "line 6: it is not JSON" in run.err
    assert not server.asked


async def test_pipes(tmp_path: Path) -> None:
    source = write_input(tmp_path / "in.jsonl", 9)
    async with serving(ScriptedServer()) as url:
        words = ("run-batch", "-i", "-", "-o", "-", "--url", url, "--order", "input", "-q")
        run = await command(*words, stdin=source.read_bytes())
        loose = await command(*words[:-3], "-q", stdin=source.read_bytes())
    assert (run.code, run.err) == (0, "")
    assert [json.loads(line)["custom_id"] for line in run.out.splitlines()] == [f"id-{i}" for i in range(9)]
    assert len(loose.out.splitlines()) == 9


async def test_ctrl_c_lets_answers_finish_and_says_how_to_go_on(tmp_path: Path) -> None:
    source, output = write_input(tmp_path / "in.jsonl", 20), tmp_path / "out.jsonl"
    server = ScriptedServer()
    server.open.clear()
    words = ("run-batch", "-i", str(source), "-o", str(output), "--concurrency", "3")
    async with serving(server) as url:
        process = await start(*words, "--url", url)
        while server.under_way < 3:
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGINT)
        await says(process, b"3 requests under way")
        server.open.set()
        run = await ended(process)
        assert run.code == 130
        assert "run the same command again" in run.err
        assert len(results(output)) == 3

        server.open.clear()
        server.under_way = 0
        process = await start(*words, "--url", url)
        while server.under_way < 3:
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGINT)
        await says(process, b"3 requests under way")
        process.send_signal(signal.SIGINT)
        run = await ended(process)
        server.open.set()
    assert run.code == 130
    assert len(results(output)) == 3
    assert "17 left" in run.err


async def test_a_server_that_goes_away_is_waited_for_and_comes_back(tmp_path: Path) -> None:
    source, output = write_input(tmp_path / "in.jsonl", 12), tmp_path / "out.jsonl"
    port = free_port()
    words = ("run-batch", "-i", str(source), "-o", str(output), "--url", f"http://127.0.0.1:{port}")
    server = ScriptedServer()
    async with serving(server, port):
        process = await start(*words, "--concurrency", "1")
        await server.someone.wait()
    await asyncio.sleep(0.2)
    async with serving(ScriptedServer(), port):
        assert (await ended(process)).code == 0
    assert len(results(output)) == 12


async def test_a_server_that_stays_away_ends_the_run(tmp_path: Path) -> None:
    source, output = write_input(tmp_path / "in.jsonl", 400), tmp_path / "out.jsonl"
    server = ScriptedServer()
    async with serving(server) as url:
        process = await start(
            "run-batch", "-i", str(source), "-o", str(output), "--url", url, "--concurrency", "1", "--patience", "0.3"
        )
        await server.someone.wait()
        server.open.clear()
    run = await ended(process)
    assert run.code == 3
    assert "has served nothing" in run.err
    assert "run the same command again" in run.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-i", "absent.jsonl", "-o", "out.jsonl", "--url", "http://127.0.0.1:9"), "absent.jsonl cannot be read"),
        (("-i", "in.jsonl", "-o", "out.jsonl", "--url", "http://127.0.0.1:9"), "rootstream serve"),
        (("-i", "in.jsonl", "-o", "in.jsonl", "--url", "http://127.0.0.1:9"), "different files"),
    ],
)
async def test_what_only_the_user_can_mend(
    words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_input(tmp_path / "in.jsonl", 1)
    run = await command("run-batch", *words)
    assert run.code == 2
    assert said in run.err
    assert "Traceback" not in run.err


async def test_a_wrong_key_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    source, output = write_input(tmp_path / "in.jsonl", 1), tmp_path / "out.jsonl"
    server = ScriptedServer()
    server.key = "right"
    async with serving(server) as url:
        run = await command("run-batch", "-i", str(source), "-o", str(output), "--url", url, ROOTSTREAM_API_KEY="wrong")
    assert run.code == 2
    assert "ROOTSTREAM_API_KEY" in run.err
    assert not output.exists()


async def test_results_of_another_batch_are_left_alone(tmp_path: Path) -> None:
    source, output = write_input(tmp_path / "in.jsonl", 1), tmp_path / "out.jsonl"
    output.write_text('{"id": "x", "custom_id": "other", "response": null, "error": null}\n')
    async with serving(ScriptedServer()) as url:
        run = await command("run-batch", "-i", str(source), "-o", str(output), "--url", url)
    assert run.code == 2
    assert "name another" in run.err
