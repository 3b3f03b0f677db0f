"""A conversation in the terminal with a running server, streaming.

Owns the history and the keys: Ctrl-C stops an answer, Ctrl-D ends. With questions from a pipe it answers
them in turn and prints nothing but the answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import signal
import sys
from collections.abc import Mapping
from typing import Any

import aiohttp
from rich.console import Console
from rich.markup import escape

from rootstream.client import Client, NoServer, Refused, explained
from shared.errors import UserError

Messages = list[dict[str, str]]


def run(url: str, system: str | None, options: Mapping[str, Any], *, api_key: str | None = None) -> int:
    """Talk until the questions end; the exit code. Raises UserError where there is no server."""
    console = Console(highlight=False)
    terminal = sys.stdin.isatty()
    model = options.get("model") or asyncio.run(_first_model(Client(url, api_key)))
    if terminal:
        console.print(f"[dim]{model} at {url}: Ctrl-C stops an answer, Ctrl-D ends[/dim]")
    history: Messages = [{"role": "system", "content": system}] if system else []
    code = 0
    while (question := _ask_terminal() if terminal else _ask_pipe()) is not None:
        if not question.strip():
            continue
        history.append({"role": "user", "content": question})
        body = {**options, "model": model, "messages": history, "stream": True}
        try:
            answer = asyncio.run(_answer(Client(url, api_key), body, console))
        except Refused as error:
            console.print(f"[red]{escape(error.message)}[/red]")
            history.pop()
            code = 1
            continue
        history.append({"role": "assistant", "content": answer})
    return code


async def _first_model(client: Client) -> str:
    try:
        async with client:
            return await client.first_model()
    except NoServer:
        raise UserError(
            f"no server answers at {client.url}: start one with `rootstream serve`, or give its --url"
        ) from None
    except Refused as error:
        raise UserError(f"{client.url} is no server to chat with: {explained(error)}") from None


async def _answer(client: Client, body: Mapping[str, Any], console: Console) -> str:
    """Print an answer as it comes; its text, as far as it came. Raises UserError if the server is gone."""
    parts: list[str] = []
    printing = asyncio.create_task(_print_deltas(client, body, parts, console))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, printing.cancel)
    try:
        await printing
    except asyncio.CancelledError:
        console.print(" [dim]… stopped[/dim]", end="")
    except (NoServer, aiohttp.ClientError) as error:
        raise UserError(f"the server at {client.url} has gone: {error}") from None
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        console.print()
    return "".join(parts)


async def _print_deltas(client: Client, body: Mapping[str, Any], parts: list[str], console: Console) -> None:
    async with client, contextlib.aclosing(client.stream("/v1/chat/completions", body)) as events:
        async for event in events:
            for choice in event.get("choices", ()):
                text = choice.get("delta", {}).get("content") or ""
                if text:
                    parts.append(text)
                    console.out(text, end="", highlight=False)


def _ask_terminal() -> str | None:
    """A line from the terminal, with history and editing where the platform has them; None for Ctrl-D."""
    with contextlib.suppress(ImportError):
        importlib.import_module("readline")  # input() uses it once it is imported
    try:
        return input("\n> ")
    except EOFError:
        return None
    except KeyboardInterrupt:
        return ""


def _ask_pipe() -> str | None:
    line = sys.stdin.readline()
    return line.rstrip("\n") if line else None
