"""What the language costs its client: many programs in one loop, asking a process that answers at next to no cost.

    .venv/bin/python -m benchmarks.programs.client_cost [--programs 500] [--calls 20] [--delay 0.4] [--rounds 3]

Each program makes its calls one after another, each going on from the one before, as a conversation does; the responder
answers after ``--delay`` seconds, so that programs / delay calls a second are asked for. CPU is that of the client's
process: with programs written plainly, and async; of the backend alone, without the language; and of the least that
aiohttp's client needs for the same requests and answers. Medians of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from typing import NamedTuple, cast

import aiohttp
import msgspec
import uvloop

import rootstream as rs
from rootstream.lang.backends import wire
from rootstream.lang.backends.server import new_id
from rootstream.lang.calls import Call
from rootstream.lang.parts import Gen, Text

QUESTION = "\nWhich of the ships in the harbour leaves with the next tide, and who is on board?\n"
_ANSWER = (
    b'{"id":"9f0b7cf2d3c54f2e9d5e","object":"context","created":1760000000,"model":"some-model","parent":null,"parts":'
    b'[{"part":1,"type":"gen","name":"answer","text":"The Margarete, with nine sailors and a cat.","finish_reason":'
    b'"stop","matched_stop":null,"completion_tokens":12}],"length":96,"usage":{"prompt_tokens":84,"completion_tokens":12,'
    b'"total_tokens":96,"prompt_tokens_details":{"cached_tokens":64}}}'
)
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\nServer: a\r\n\r\n"


class Cost(NamedTuple):
    """Of one way to ask, in one round."""

    cpu_us: float  # a call
    calls_per_s: float


class Responder(asyncio.Protocol):
    """Gives every request the same answer, some time after it came."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        head, found, body = (self._rest + data).partition(b"\r\n\r\n")
        self._rest += data
        if not found or len(body) < int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]):
            return
        self._rest = b""
        asyncio.get_running_loop().call_later(self._delay, self._transport.write, _HEAD % len(_ANSWER) + _ANSWER)


async def respond(delay: float) -> None:
    """Until the process is ended."""
    server = await asyncio.get_running_loop().create_server(lambda: Responder(delay), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def responding(delay: float) -> Generator[str]:
    """A responder in a process of its own; the value is its URL."""
    command = [sys.executable, "-m", "benchmarks.programs.client_cost", "--respond", "--delay", str(delay)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.communicate()


@rs.function
def plain(s: rs.State, calls: int) -> None:
    """Each answer is wanted before the next question."""
    for _ in range(calls):
        s += QUESTION + rs.gen("answer", max_tokens=12, temperature=0)
        assert s["answer"]


@rs.function
async def native(s: rs.State, calls: int) -> None:
    """The same, async."""
    for _ in range(calls):
        s += QUESTION + rs.gen("answer", max_tokens=12, temperature=0)
        assert await s.get("answer")


async def by_backend(server: rs.Server, calls: int) -> None:
    """The same calls without the language."""
    parent = None
    for _ in range(calls):
        call = Call(
            id=new_id(), parent=parent, parts=(Text(QUESTION), Gen(name="answer", max_tokens=12, temperature=0))
        )
        await server.run(call)
        parent = call.id


async def by_aiohttp(http: aiohttp.ClientSession, url: str, calls: int) -> None:
    """The same requests and answers, and nothing else."""
    headers = {"Content-Type": "application/json"}
    parent = None
    for _ in range(calls):
        parts = (Text(QUESTION), Gen(name="answer", max_tokens=12, temperature=0))
        request = wire.Request(id=new_id(), parent=parent, parts=parts)
        async with http.post(f"{url}/v1/contexts", data=msgspec.json.encode(request), headers=headers) as response:
            wire.decode_context(await response.read())
        parent = request.id


async def cost(one: Callable[[], Awaitable[object]], programs: int, calls: int) -> Cost:
    """Of so many at once."""
    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*(one() for _ in range(programs)))
    total = programs * calls
    return Cost((time.process_time() - cpu) / total * 1e6, total / (time.perf_counter() - began))


async def measure(url: str, programs: int, calls: int, rounds: int) -> dict[str, list[Cost]]:
    """Each way in turns, after a short round that does not count."""
    server = rs.Server(url)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:

        def one(name: str, calls: int) -> Awaitable[object]:
            match name:
                case "programs, plain":
                    return plain.arun(calls, backend=server)
                case "programs, async":
                    return native.arun(calls, backend=server)
                case "the backend alone":
                    return by_backend(server, calls)
                case _:
                    return by_aiohttp(http, url, calls)

        names = ("programs, plain", "programs, async", "the backend alone", "aiohttp's client")
        found: dict[str, list[Cost]] = {name: [] for name in names}
        for turn in range(rounds + 1):
            for name in names:
                many = calls if turn else 2
                took = await cost(lambda name=name, many=many: one(name, many), programs, many)
                if turn:
                    found[name].append(took)
    assert threading.active_count() == 1, "there are threads"
    await server.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=500)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--delay", type=float, default=0.4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--respond", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.respond:
        uvloop.run(respond(options.delay))
        return
    for loop, factory in (("uvloop", uvloop.new_event_loop), ("asyncio", asyncio.new_event_loop)):
        with responding(options.delay) as url, asyncio.Runner(loop_factory=factory) as runner:
            found = runner.run(measure(url, options.programs, options.calls, options.rounds))
        print(f"\n{options.programs} programs in flight on {loop}'s loop, no threads")
        print("| | calls/s | CPU a call | of a core, per 1,000 calls/s |\n|---|---|---|---|")
        for name, costs in found.items():
            cpu_us = statistics.median(each.cpu_us for each in costs)
            calls_per_s = statistics.median(each.calls_per_s for each in costs)
            print(f"| {name} | {calls_per_s:,.0f} | {cpu_us:.0f} µs | {cpu_us / 10:.1f}% |")


if __name__ == "__main__":
    main()
