"""A map over the whole deployment: what its items share is computed once."""

from __future__ import annotations

import json
from pathlib import Path

import rootstream as rs
from tests.stack import Stack

SHOTS = "Here are some questions and their answers, in the form that all of them have.\n" * 4


@rs.function
def ask(s: rs.State, question: str) -> str:
    s += f"{SHOTS}Q: {question}\nA:" + rs.gen("answer", max_tokens=4, temperature=0)
    return s["answer"]


def test_all_items_find_what_they_share_in_the_cache(stack: Stack, tmp_path: Path) -> None:
    shared = ask.trace("x", backend=rs.Server(stack.url)).tokens.sent
    path = tmp_path / "map.json"
    items = ask.map([f"number {n}?" for n in range(12)], backend=rs.Server(stack.url), concurrency=6, trace=path)
    items.raise_first()
    assert all(item.usage.cached_tokens > 0.8 * shared for item in items)
    assert [item.returned for item in items] == [
        ask.run(item.args, backend=rs.Server(stack.url)).returned for item in items
    ]
    ends = [event for event in json.loads(path.read_text()) if event["ph"] == "E" and event["cat"] == "call"]
    assert len(ends) == 12
    assert sum(event["args"]["cached_tokens"] for event in ends) == items.usage.cached_tokens


def test_conversations_share_their_beginning_too(stack: Stack) -> None:
    @rs.function
    def chat(s: rs.State, question: str) -> None:
        s += rs.system(SHOTS) + rs.user(f"{SHOTS} Q: {question}")
        s += rs.assistant(rs.gen("answer", max_tokens=4))

    items = chat.map([f"number {n}?" for n in range(6)], backend=rs.Server(stack.url))
    items.raise_first()
    assert all(item.usage.cached_tokens > 0.8 * item.usage.prompt_tokens for item in items)
