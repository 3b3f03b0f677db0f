"""Maps and timelines over HTTP, while the server has its troubles."""

from __future__ import annotations

import json
from pathlib import Path

import rootstream as rs
from tests.rootstream.lang.toy_server import Lose, Refusal, ToyServer, serving

SHOTS = "Question: what is a tree? Answer: a tall plant. Question: and moss? Answer: a small one. "


@rs.function
def ask(s: rs.State, question: str) -> str:
    s += f"{SHOTS}Question: {question}? Answer:" + rs.gen("answer", max_tokens=3)
    s += " Surely:" + rs.gen("more", max_tokens=3)
    return s["more"]


async def test_what_items_share_is_sent_and_computed_first() -> None:
    toy = ToyServer()
    async with serving(toy) as url:
        server = rs.Server(url)
        items = await ask.amap([f"what is {number}" for number in range(20)], backend=server, concurrency=5)
        await server.close()
    items.raise_first()
    bodies = [body for body in toy.of("/v1/contexts") if body["parts"]]
    first, *rest = bodies
    assert first["prefill"]
    assert first["parts"] == [{"type": "text", "text": f"{SHOTS}Question: what is "}]
    assert len({body["group"] for body in bodies}) == 1
    assert len(rest) == 20
    assert toy.most_running <= 5
    assert not toy.contexts.keys() & {body["id"] for body in bodies if body.get("keep", True)}


async def test_retries_and_lost_contexts_are_on_the_timeline(tmp_path: Path) -> None:
    @rs.function
    def program(s: rs.State) -> str:
        s += "Once upon a time" + rs.gen("a", max_tokens=3)
        assert s["a"] is not None
        s += " and then" + rs.gen("b", max_tokens=3)
        return s["b"]

    toy = ToyServer()
    toy.faults.extend([Refusal(503, {"Retry-After": "0"}), None, Lose()])
    async with serving(toy) as url:
        server = rs.Server(url, patience=20)
        await program.arun(backend=server, trace=tmp_path / "run.json")
        await server.close()
    events = json.loads((tmp_path / "run.json").read_text())
    names = [event["name"] for event in events]
    assert "retry" in names
    assert "lost context" in names
    ends = [event["args"] for event in events if event["ph"] == "E" and event["cat"] == "call"]
    assert len(ends) == 2
    assert all(end["prompt_tokens"] > 0 and end["completion_tokens"] >= 0 for end in ends)


async def test_the_server_counts_the_tokens_of_a_dry_run() -> None:
    toy = ToyServer()
    async with serving(toy) as url:
        graph = await ask.atrace("why", backend=rs.Server(url))
    assert graph.tokens.are_counted
    assert graph.tokens.sent == len(f"{SHOTS}Question: why? Answer:".split()) + 1
    assert not toy.of("/v1/contexts")
