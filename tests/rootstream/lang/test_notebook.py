"""What notebooks show of states, items and graphs, as a browser has it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

import rootstream as rs
from rootstream.lang.calls import Outcome, Result, Usage
from tests.browser.chromium import Page
from tests.rootstream.lang.memory import Memory

HOSTILE = "<img src=x onerror=\"document.title='caught'\"></div></td><script>document.title='caught'</script>'\"&amp;"


@rs.function
def chat(s: rs.State, question: str) -> str:
    s += rs.system("You answer <b>briefly</b>.")
    s += rs.user(question) + rs.assistant("Well: " + rs.gen("answer", max_tokens=9))
    return s["answer"]


@rs.function
def plain(s: rs.State, question: str) -> None:
    s += f"Q: {question}\nA:" + rs.gen(HOSTILE)
    s += "\nGood: " + rs.select("good", [HOSTILE, "no"])


class Spoken(Memory):
    """Says the worst, and counts."""

    async def run(self, call: Any, on_piece: Any = None) -> Outcome:
        outcome = await super().run(call, on_piece)
        results = [
            result if result.index is not None else Result(name=result.name, text=HOSTILE, part=result.part)
            for result in outcome.results
        ]
        return Outcome(tuple(results), Usage(20, 3, 15))


def shown() -> list[tuple[str, str]]:
    """Everything that draws itself, by name."""
    state = chat.run(HOSTILE, backend=Spoken())
    raw = plain.run(HOSTILE, backend=Spoken())
    items = chat.map([HOSTILE, "b", ("x", "one too many")], backend=Spoken())
    return [
        ("state", state._repr_html_()),
        ("raw", raw._repr_html_()),
        ("item", items[0]._repr_html_()),
        ("failed", items[2]._repr_html_()),
        ("items", items._repr_html_()),
        ("graph", plain.trace(HOSTILE)._repr_html_()),
    ]


async def test_it_is_drawn_and_nothing_in_it_runs(page: Page, tmp_path: Path) -> None:
    import asyncio

    pieces = await asyncio.to_thread(shown)
    body = "".join(f"<section id='{name}'>{html}</section><hr>" for name, html in pieces)
    path = tmp_path / "notebook.html"
    path.write_text(f"<!doctype html><meta charset='utf-8'><title>quiet</title><body>{body}")
    await page.open(path.as_uri())
    assert await page.eval("document.title") == "quiet"
    assert await page.eval("document.querySelectorAll('img, script').length") == 0
    assert await page.eval("document.querySelectorAll('body > section').length") == len(pieces)
    for name, _ in pieces:
        assert HOSTILE[:20] in await page.eval(f"document.getElementById('{name}').innerText") or name == "failed"
    generated = await page.eval("[...document.querySelectorAll('#state span[title]')].map(e => e.innerText)")
    assert [HOSTILE in text for text in generated] == [True]
    assert "You answer <b>briefly</b>." in await page.eval("document.getElementById('state').innerText")
    assert "20 prompt tokens, 75% cached; 3 generated" in await page.eval("document.getElementById('state').innerText")
    assert "TypeError" in await page.eval("document.getElementById('failed').innerText")
    assert await page.eval("document.querySelectorAll('#items tr').length") == 4
    (tmp_path / "notebook.png").write_bytes(base64.b64decode(await page.screenshot()))


def test_looking_at_a_state_runs_nothing_and_forgives_nothing() -> None:
    drawn: list[str] = []

    @rs.function
    def program(s: rs.State) -> None:
        s += "a" + rs.gen("first")
        drawn.append(s._repr_html_())
        s += "b" + rs.gen("second")

    backend = Memory(broken=lambda name: name == "second")
    with pytest.raises(rs.CallError):
        program.run(backend=backend)
    assert "{first}" in drawn[0]


def test_a_failed_state_shows_its_error() -> None:
    states: list[rs.State] = []

    @rs.function
    def program(s: rs.State) -> None:
        states.append(s)
        s += "a" + rs.gen("first") + "b"
        assert s["first"]
        s += rs.gen("second")

    with pytest.raises(rs.CallError):
        program.run(backend=Memory(broken=lambda name: name == "second"))
    html = states[0]._repr_html_()
    assert "second is broken" in html
    assert "<b>first</b>" in html


def test_restored_items_are_drawn_too(tmp_path: Path) -> None:
    chat.map(["a"], backend=Spoken(), resume=tmp_path / "x")
    [item] = chat.map(["a"], backend=Memory(), resume=tmp_path / "x")
    assert item.is_restored
    assert "<script>" not in item._repr_html_()
    assert "onerror" in item._repr_html_()
    assert json.loads((tmp_path / "x").read_text())["index"] == 0
