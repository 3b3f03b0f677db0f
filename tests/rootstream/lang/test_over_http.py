"""Programs over HTTP: whatever the server loses, refuses or cuts off, they say what they say undisturbed."""

from __future__ import annotations

import asyncio
import random

import rootstream as rs
from tests.rootstream.lang.toy_server import Cut, Fault, Lose, Refusal, ToyServer, serving


@rs.function
def essay(s: rs.State, topic: str) -> str:
    s += f"About {topic}. " + rs.gen("plan", max_tokens=4)
    forks = s.fork(3)
    for number, fork in enumerate(forks):
        fork += f" Point {number}: " + rs.gen("point", max_tokens=5)
    forks.join()
    for point in s["point"]:
        s += f" - {point}"
    s += " So: " + rs.select("verdict", ["good", "bad"]) + rs.gen("end", max_tokens=3)
    return s["end"]


@rs.function
async def talk(s: rs.State, topic: str) -> str:
    s += rs.system("Be brief.")
    for turn in range(3):
        s += rs.user(f"{topic} {turn}?") + rs.assistant(rs.gen("reply", max_tokens=4))
        await s
    return s["reply"]


async def said(toy: ToyServer, programs: int = 12) -> list[str]:
    async with serving(toy) as url:
        server = rs.Server(url, patience=20)
        states = [program.start(f"topic {k}", backend=server) for k in range(programs) for program in (essay, talk)]
        texts = [(await state).text() for state in states]
        await server.close()
    return texts


async def test_disturbed_programs_say_the_same() -> None:
    calm, rough = ToyServer(), ToyServer()
    draws = random.Random(7)
    faults: list[Fault | None] = [Lose(), Cut(20), Cut(150), Refusal(503, {"Retry-After": "0"}), Refusal(429)]
    rough.faults.extend(draws.choice([None, None, *faults]) for _ in range(60))
    assert await said(rough) == await said(calm)
    assert not rough.faults


async def test_a_program_leaves_no_context_and_says_nothing_twice() -> None:
    toy = ToyServer()
    await said(toy, 3)
    bodies = [body for body in toy.of("/v1/contexts") if body["parts"]]  # others only release
    kept = {body["id"] for body in bodies if body.get("keep", True)}
    assert kept
    assert kept <= set(toy.released)
    assert len({body["id"] for body in bodies}) == len(bodies)
    assert sum(len(body["parts"]) for body in bodies if body.get("parent") is None) < sum(
        len(body["parts"]) for body in bodies
    )
    essays = [body for body in bodies if any("topic 0. " in part.get("text", "") for part in body["parts"])]
    assert len(essays) == 1


async def test_cancelling_reaches_the_server() -> None:
    toy = ToyServer(delay=5)
    async with serving(toy) as url:
        server = rs.Server(url)
        state = essay.start("ice", backend=server)
        while not toy.running:
            await asyncio.sleep(0.005)
        toy.delay = 0
        state.cancel()
        while toy.running:
            await asyncio.sleep(0.005)
        await server.close()
    assert toy.cancelled == 1


def test_runs_in_loops_of_their_own_share_a_server_object() -> None:
    toy = ToyServer()

    async def serve() -> None:
        async with serving(toy) as url:
            server = rs.Server(url)
            first = await asyncio.to_thread(essay.run, "ice", backend=server)
            second = await asyncio.to_thread(essay.run, "ice", backend=server)
            pieces = await asyncio.to_thread(
                lambda: "".join(essay.run("ice", backend=server, stream=True).text_iter("plan"))
            )
            assert first.text() == second.text()
            assert pieces == first["plan"]

    asyncio.run(serve())
