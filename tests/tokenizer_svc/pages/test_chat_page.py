"""The chat page in a real browser, before real front doors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from shared.protocol import Finish, Generate
from shared.service import Context
from tests.browser.chromium import Page
from tests.tokenizer_svc.conftest import StartDoor
from tests.tokenizer_svc.downstream import Downstream, endless, silent
from tests.tokenizer_svc.resumable.conftest import WORDS, Doors, Story
from tests.tokenizer_svc.resumable.conftest import doors as doors  # noqa: PLC0414 - a fixture

SAID = "[...document.querySelectorAll('.body, .assistant > .text-of')].map(shown => shown.textContent)"
READY = "document.activeElement.id === 'input'"
IDLE = "document.querySelector('#stop').hidden"


async def ask(page: Page, text: str) -> None:
    await page.type(text)
    await page.press("Enter")


async def done(page: Page) -> list[str]:
    """What is shown once the answer is complete."""
    await page.until(IDLE)
    return await page.eval(SAID)


@pytest_asyncio.fixture
async def chat(door: Context, url: str, page: Page) -> AsyncIterator[Page]:
    """The page before one front door."""
    await page.open(url)
    await page.until("document.querySelector('#model-name').textContent === 'toy'")
    yield page
    allowed = ("/ready", "favicon")  # not ready at once, which the browser reports
    assert not [told for told in page.complaints if not any(part in told for part in allowed)]
    assert all(address.startswith(url) for address in page.requested), "nothing from elsewhere"


async def test_a_conversation(chat: Page, downstream: Downstream) -> None:
    await ask(chat, "first")
    assert await done(chat) == ["first", "Hello wörld"]
    figures = await chat.eval("document.querySelector('.figures').innerText")
    for part in ("first token", "ms", "3 tokens", ", 2 cached", "toy"):
        assert part in figures
    await ask(chat, "second")
    assert await done(chat) == ["first", "Hello wörld", "second", "Hello wörld"]
    first, second = downstream.generates.values()
    assert len(second.input_ids) > len(first.input_ids), "with all that was said before"
    await chat.click("button[aria-label='Ask for another answer']")
    assert await done(chat) == ["first", "Hello wörld", "second", "Hello wörld"]
    assert [*downstream.generates.values()][-1].input_ids == second.input_ids
    await chat.click(".user button[aria-label='Edit and send again']")
    await chat.eval("document.activeElement.select()")
    await ask(chat, "changed")
    assert await done(chat) == ["changed", "Hello wörld"]
    await chat.send("Page.reload")
    await chat.until("document.querySelectorAll('#messages > li').length === 2")
    assert await chat.eval(SAID) == ["changed", "Hello wörld"], "the tab remembers"
    await chat.click("#new")
    assert await chat.eval(SAID) == []
    await chat.click("#open-chats")
    assert await chat.eval("document.querySelector('#chat-list').innerText.trim().split('\\n')[0]") == "first"
    await chat.click("#chat-list .open")
    assert await chat.eval(SAID) == ["changed", "Hello wörld"]
    await chat.click("#open-chats")
    await chat.click("#clear")
    assert await chat.eval(SAID) == []
    assert await chat.eval("sessionStorage.getItem('rootstream.chats')") == "[]"
    assert await chat.eval("Object.keys(localStorage).length + document.cookie.length") == 0


async def test_settings_are_sent(chat: Page, downstream: Downstream) -> None:
    await chat.click("#open-settings")
    for field, value in (("system", "Be brief."), ("temperature", "0.3"), ("max-tokens", "7")):
        await chat.click(f"#{field}")
        await chat.type(value)
    await chat.click("#settings .primary")
    await chat.until(READY)
    await ask(chat, "x")
    await done(chat)
    [generate] = downstream.generates.values()
    assert (generate.sampling.temperature, generate.sampling.max_tokens) == (0.3, 7)
    await chat.click("#open-settings")
    await chat.click("#max-tokens")
    await chat.type("000")
    await chat.press("Escape")
    await chat.until(READY)
    await ask(chat, "y")
    await done(chat)
    assert "maximum context length" in await chat.eval("document.querySelector('.error').textContent"), "why is shown"
    chat.complaints.clear()  # browsers report every 400


async def test_stopping_frees_what_the_answer_holds(chat: Page, downstream: Downstream) -> None:
    downstream.script = endless
    await ask(chat, "x")
    await chat.until(f"{SAID}[1] === 'once'")
    await chat.press("Escape")
    assert await done(chat) == ["x", "once"]
    assert await chat.eval("document.querySelector('.remark').textContent") == "Stopped."
    [first] = downstream.generates
    await downstream.until(lambda: first in downstream.aborted)
    downstream.script = silent  # it waits in the queue: there is no id yet to cancel it by
    await ask(chat, "y")
    await downstream.until(lambda: len(downstream.generates) == 2)
    await chat.click("#stop")
    second = [*downstream.generates.values()][1]
    await downstream.admit(second)
    await downstream.until(lambda: second.id in downstream.aborted)
    await done(chat)


async def test_a_server_with_keys(start_door: StartDoor, url: str, page: Page) -> None:
    await start_door(api_keys="a:secret-of-alice")
    await page.open(url)
    await page.until("document.querySelector('#settings').open && document.activeElement.id === 'key'")
    await page.type("secret-of-alice")
    await page.press("Enter")
    await page.until("document.querySelector('#model-name').textContent === 'toy'")
    await page.until(READY)
    await ask(page, "x")
    assert await done(page) == ["x", "Hello wörld"]
    kept: dict[str, Any] = json.loads(await page.eval("JSON.stringify({...sessionStorage})"))
    assert json.loads(kept["rootstream.key"]) == "secret-of-alice"
    assert await page.eval("Object.keys(localStorage).length") == 0


async def test_a_killed_front_door_does_not_end_an_answer(doors: Doors, downstream: Downstream, page: Page) -> None:
    story = Story(upto=4)
    downstream.script = downstream.again = story
    url = await doors.start("a")
    await page.open(url)
    await page.until("document.querySelector('#model-name').textContent === 'toy'")
    await ask(page, "x")
    await page.until(f"{SAID}[1] === {json.dumps(''.join(WORDS[:4]))}")
    await doors.kill("a")
    await page.until("document.querySelector('.wait')?.textContent.includes('reconnecting')")
    await doors.start("b", port=int(url.rpartition(":")[2]))
    story.go_on(7)
    await page.until(f"{SAID}[1].startsWith({json.dumps(''.join(WORDS[:7]))})")
    await page.send("Page.reload")
    await page.until("document.querySelector('#stop')?.hidden === false")
    story.go_on()
    assert await done(page) == ["x", "".join(WORDS)], "also a page that was loaded anew goes on"


async def test_thoughts_are_folded_away(start_door: StartDoor, url: str, page: Page, downstream: Downstream) -> None:
    more = asyncio.Event()

    async def script(downstream: Downstream, generate: Generate) -> None:
        await downstream.admit(generate)
        await downstream.texts(generate, (0, [10], "<think>Hm, **so**.\n", Finish.NONE, None))
        await more.wait()
        last = (2, [2], "", Finish.STOP, 2)
        await downstream.texts(generate, (1, [11], "</think>Yes.", Finish.NONE, None), last)

    downstream.script = script
    await start_door(reasoning_format="think")
    await page.open(url)
    await page.until("document.querySelector('#model-name').textContent === 'toy'")
    await ask(page, "x")
    await page.until("document.querySelector('details.reasoning').open")
    assert await page.until("document.querySelector('summary').textContent") == "Thinking"
    assert await page.eval("document.querySelector('details .text-of').innerHTML") == "<p>Hm, <strong>so</strong>.</p>"
    more.set()
    assert (await done(page))[-1] == "Yes."
    assert await page.until("document.querySelector('summary').textContent") == "Thoughts"
    assert not await page.eval("document.querySelector('details').open")
    await page.click("summary")
    assert await page.eval("document.querySelector('details').open")


async def test_narrow_screens_and_people_who_do_not_see_it(chat: Page) -> None:
    await chat.resize(360, 640)
    await ask(chat, "a" * 60)
    await done(chat)
    assert await chat.eval("document.documentElement.scrollWidth") <= 360, "nothing runs out of a narrow screen"
    unnamed = await chat.eval(
        "[...document.querySelectorAll('button, input, textarea, select')].filter(e => !e.textContent.trim() && "
        "!e.ariaLabel && !e.labels?.length).length"
    )
    assert unnamed == 0, "everything that can be used has a name"
    assert await chat.eval("document.querySelector('#said').textContent") == "Answer complete"
    reached = set()
    for _ in range(14):
        await chat.press("Tab")
        reached.add(await chat.eval("document.activeElement.id || document.activeElement.ariaLabel"))
    assert {"open-settings", "new", "input", "Copy this message"} <= reached, "all of it by keyboard"
