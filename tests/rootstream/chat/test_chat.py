"""`rootstream chat` as a process: through pipes, and in a terminal with a person's keys."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.rootstream.commands import command
from tests.rootstream.openai_server import EchoServer, serving
from tests.rootstream.terminal import CTRL_C, CTRL_D, terminal


async def test_a_pipe_is_one_question_with_a_plain_answer() -> None:
    server = EchoServer()
    async with serving(server) as url:
        words = ("chat", "--url", url, "--system", "be kind", "--max-tokens", "9")
        run = await command(*words, stdin=b"hello you\n\nand again\n")
    assert run == (0, "hello you and again \n", "")
    [body] = server.bodies
    assert [message["content"] for message in body["messages"]] == ["be kind", "hello you\n\nand again"]
    assert body["max_tokens"] == 9
    assert "temperature" not in body


async def test_a_question_on_the_command_line_takes_the_pipe_along() -> None:
    server = EchoServer()
    async with serving(server) as url:
        run = await command("chat", "what is this", "--url", url, stdin=b"a letter\n")
        nothing = await command("chat", "--url", url)
    assert run == (0, "what is this a letter \n", "")
    assert nothing == (0, "", "")


async def test_without_a_server_it_says_how_to_start_one() -> None:
    run = await command("chat", "--url", "http://127.0.0.1:9")
    assert run.code == 2
    assert "rootstream serve" in run.err
    assert "Traceback" not in run.err


async def test_a_refusal_is_an_error_and_no_answer() -> None:
    server = EchoServer()
    server.fail_with = "prompt [too] long"
    async with serving(server) as url:
        run = await command("chat", "--url", url, stdin=b"one")
    assert (run.code, run.out) == (1, "")
    assert "prompt [too] long" in run.err


async def test_a_conversation_with_its_commands(tmp_path: Path) -> None:
    server = EchoServer()
    kept = tmp_path / "chat.json"
    async with serving(server) as url, terminal("chat", "--url", url) as screen:
        await screen.sees("/help lists commands")
        await screen.sees("> ")
        screen.enter("hello # **you**")
        await screen.sees("hello # **you** \n")
        await screen.sees("TTFT ")
        await screen.sees("3 tokens at ")
        await screen.sees(" cached")

        screen.enter("/set temprature 1")
        await screen.sees("did you mean temperature?")
        screen.enter("/set temperature 0.7")
        await screen.sees("temperature = 0.7")
        screen.enter("/system be brief")
        await screen.sees("system prompt: be brief")
        screen.enter('"""first')
        screen.enter('second"""')
        await screen.sees("first second \n")
        assert server.bodies[-1]["temperature"] == 0.7
        assert [message["content"] for message in server.bodies[-1]["messages"]] == [
            "be brief",
            "hello # **you**",
            "hello # **you** ",
            "first\nsecond",
        ]

        screen.enter("/retry")
        await screen.sees("first second \n")
        assert server.bodies[-1]["messages"] == server.bodies[-2]["messages"]
        screen.enter(f"/save {kept}")
        await screen.sees("4 messages in")
        assert len(json.loads(kept.read_text())["messages"]) == 4
        screen.enter("/undo")
        await screen.sees("taken back: first")
        screen.enter("/clear")
        await screen.sees("forgotten")
        screen.enter("/tokens")
        await screen.sees("3 answers took")
        screen.enter("/model nobody")
        await screen.sees("the server has no nobody: it has echo")
        screen.enter("/load /nonexistent")
        await screen.sees("cannot be read")
        screen.enter(f"/load {kept}")
        await screen.sees("4 messages from")
        screen.enter("/multiline")
        await screen.sees("ends a question")
        screen.enter("a")
        screen.enter("b")
        screen.enter(".")
        await screen.sees("a b \n")
        assert server.bodies[-1]["messages"][-1]["content"] == "a\nb"
        screen.enter("/quit")
        assert await screen.ended() == 0


async def test_ctrl_c_stops_the_answer_and_not_the_chat() -> None:
    server = EchoServer()
    async with serving(server) as url, terminal("chat", "--url", url) as screen:
        await screen.sees("> ")
        screen.enter("forever")
        await screen.sees("forever forever forever")
        screen.press(CTRL_C)
        await screen.sees("stopped")
        await asyncio.wait_for(server.disconnected.wait(), 20)
        await screen.sees("> ")
        await screen.presses("half a line", CTRL_C, until="\n> ")
        screen.enter("still there")
        await screen.sees("still there \n")
        await screen.sees("> ")
        assert [message["role"] for message in server.bodies[-1]["messages"]] == ["user", "assistant", "user"]
        screen.press(CTRL_D)
        assert await screen.ended() == 0


async def test_ctrl_c_at_any_moment_leaves_the_chat_alive() -> None:
    server = EchoServer()
    async with serving(server) as url, terminal("chat", "--url", url) as screen:
        await screen.sees("> ")
        for milliseconds in (0, 1, 2, 3, 4, 6, 8, 11, 15, 20, 30, 50):
            screen.enter("forever")
            await asyncio.sleep(milliseconds / 1000)
            await screen.presses(CTRL_C, f"/system {milliseconds} ms\r", until=f"system prompt: {milliseconds} ms")
        screen.enter("/quit")
        assert await screen.ended() == 0
        assert "Traceback" not in screen.text
        assert "Exception" not in screen.text


async def test_a_refusal_takes_the_question_back() -> None:
    server = EchoServer()
    async with serving(server) as url, terminal("chat", "--url", url) as screen:
        await screen.sees("> ")
        server.fail_with = "prompt [too] long"
        screen.enter("one")
        await screen.sees("prompt [too] long")
        server.fail_with = None
        screen.enter("two")
        await screen.sees("two \n")
        assert len(server.bodies[-1]["messages"]) == 1


async def test_reasoning_is_dim_and_apart() -> None:
    server = EchoServer(thinks="let me see")
    async with serving(server) as url:
        async with terminal("chat", "--url", url) as screen:
            await screen.sees("> ")
            screen.enter("why")
            await screen.sees("let me see\n\nwhy \n")
            assert "\x1b[2;3mlet" in screen.raw
        assert (await command("chat", "--url", url, stdin=b"why")).out == "why \n"
    assert "see" not in str(server.bodies)
