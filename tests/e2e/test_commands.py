"""The other commands against a real server, through its restarts and deaths."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from tests.e2e.conftest import Server, StartServer
from tests.rootstream.commands import command, ended, start
from tests.rootstream.terminal import CTRL_C, terminal


@pytest.fixture(scope="module")
def server(serve: StartServer, toy_model: Path) -> Server:
    return serve(str(toy_model), "--kv-memory", "32MiB", "--dtype", "float32")


def kill(server: Server, package: str) -> None:
    server.child(package).send_signal(signal.SIGKILL)


async def test_an_answer_in_a_chat_goes_on_when_the_front_door_dies(server: Server) -> None:
    async with terminal("chat", "--url", server.url, "--max-tokens", "600") as screen:
        await screen.sees("> ")
        screen.enter("/set ignore_eos true")
        await screen.sees("ignore_eos = True")
        screen.enter("tell me everything")
        await screen.sees("everything\n")
        shown = len(screen.text)
        while len(screen.text) < shown + 100:
            await screen.changed()
        kill(server, "tokenizer_svc")
        await screen.sees("waiting for the server")
        await screen.sees("600 tokens at")
        screen.enter("/tokens")
        await screen.sees("600 generated ones")
        screen.enter("go on")
        await screen.sees("go on\n")
        await screen.changed()
        screen.press(CTRL_C)
        await screen.sees("stopped")


async def test_a_batch_lives_through_the_deaths_of_processes(server: Server, tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    bodies = {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8},
        "/v1/completions": {"prompt": "the quick", "max_tokens": 8},
        "/generate": {"text": ["the", "a"], "sampling_params": {"max_new_tokens": 8}},
    }
    with source.open("w") as file:
        for i in range(240):
            url, body = list(bodies.items())[i % len(bodies)]
            print(json.dumps({"custom_id": f"id-{i}", "method": "POST", "url": url, "body": body}), file=file)
    process = await start("run-batch", "-i", str(source), "-o", str(output), "--url", server.url, "--concurrency", "4")
    for package in ("gpu_worker", "tokenizer_svc"):
        before = lines(output)
        while lines(output) < before + 20:
            assert process.returncode is None
            await asyncio.sleep(0.01)
        kill(server, package)
    run = await ended(process)
    assert run.code == 0, run.err
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert {result["custom_id"] for result in found} == {f"id-{i}" for i in range(240)}
    assert len(found) == 240
    assert {result["response"]["status_code"] for result in found} == {200}


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


async def test_a_batch_names_paths_that_the_server_lacks(server: Server, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"custom_id": "a", "method": "POST", "url": "/v1/nothing", "body": {}}\n')
    run = await command("run-batch", "-i", str(source), "-o", str(tmp_path / "out.jsonl"), "--url", server.url)
    assert run.code == 2
    assert "line 1: url '/v1/nothing' is not served" in run.err
    assert "/v1/chat/completions" in run.err


async def test_a_batch_with_a_server_of_its_own(toy_model: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "the"}}\n')
    words = ("run-batch", "-i", str(source), "-o", str(output))
    run = await command(*words, "--model", str(toy_model), "--kv-memory", "32MiB")
    assert run.code == 0, run.err
    assert json.loads(output.read_text())["response"]["body"]["object"] == "text_completion"
    absent = await command(*words, "--model", str(tmp_path / "absent.gguf"))
    assert absent.code == 2
    assert "absent.gguf" in absent.err
