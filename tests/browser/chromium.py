"""A headless Chromium, driven over its DevTools protocol. Knows nothing of the pages that it shows.

https://chromedevtools.github.io/devtools-protocol/ describes the messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_START_S = 60.0
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--hide-scrollbars", "--remote-debugging-port=0"),
)


def executable() -> str | None:
    """A browser on this machine."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@contextlib.contextmanager
def running(path: str, folder: Path) -> Iterator[str]:
    """A browser process; yields the address that it is driven at."""
    command = [path, *_FLAGS, f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        told, deadline = folder / "DevToolsActivePort", time.monotonic() + _START_S
        while not (told.exists() and len(lines := told.read_text().splitlines()) == 2):
            assert process.poll() is None, f"{path} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{path} did not get ready"
            time.sleep(0.05)
        yield f"ws://127.0.0.1:{lines[0]}{lines[1]}"
    finally:
        process.terminate()
        process.wait()


class Page:
    """One page, without anything that earlier ones left."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._session = ""
        self.complaints: list[str] = []  # of the console: errors, what the policy forbids
        self.requested: list[str] = []  # addresses

    async def _read(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            if (future := self._answers.pop(told.get("id", 0), None)) is not None:
                future.set_result(told)
                continue
            told_of = told.get("params", {})
            match told.get("method"):
                case "Network.requestWillBeSent":
                    self.requested.append(told_of["request"]["url"])
                case "Runtime.exceptionThrown":
                    self.complaints.append(json.dumps(told_of["exceptionDetails"])[:500])
                case "Log.entryAdded" if told_of["entry"]["level"] == "error":
                    self.complaints.append(f"{told_of['entry']['text']} {told_of['entry'].get('url', '')}")
                case _:
                    pass

    async def send(self, method: str, /, **params: Any) -> dict[str, Any]:
        """One command and its answer."""
        number = next(self._numbers)
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        session = {"sessionId": self._session} if self._session else {}
        await self._socket.send_json({"id": number, "method": method, "params": params, **session})
        async with asyncio.timeout(60):
            told = await future
        assert "error" not in told, (method, told)
        return told["result"]

    async def begin(self, width: int, height: int) -> None:
        context = (await self.send("Target.createBrowserContext"))["browserContextId"]
        target = await self.send("Target.createTarget", url="about:blank", browserContextId=context)
        attached = await self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.send(f"{domain}.enable")
        await self.resize(width, height)

    async def resize(self, width: int, height: int) -> None:
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    async def dark(self, *, on: bool = True) -> None:
        features = [{"name": "prefers-color-scheme", "value": "dark" if on else "light"}]
        await self.send("Emulation.setEmulatedMedia", features=features)

    async def open(self, url: str) -> None:
        await self.send("Page.navigate", url=url)
        await self.until("document.readyState === 'complete'")

    async def eval(self, expression: str) -> Any:
        """What a JavaScript expression, or the promise it is, comes to."""
        told = await self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def until(self, expression: str, patience: float = 30) -> Any:
        """Wait until an expression is true, or what it comes to otherwise is not false."""
        deadline = time.monotonic() + patience
        asked = f"(found => found instanceof Node ? true : found)({expression})"
        while True:
            told = await self.send("Runtime.evaluate", expression=asked, returnByValue=True)
            if value := told["result"].get("value"):
                return value
            if time.monotonic() > deadline:
                shown = await self.eval("document.body?.innerText")
                raise AssertionError(f"{expression} did not come true; the page says:\n{shown}\n{self.complaints}")
            await asyncio.sleep(0.03)

    async def click(self, selector: str) -> None:
        """As a person would, in the middle of what is shown."""
        quoted = json.dumps(selector)
        at = await self.until(
            f"(() => {{ const e = document.querySelector({quoted}); if (!e) return null; "
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect(); "
            "return r.width ? [r.x + r.width / 2, r.y + r.height / 2] : null; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.send("Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], button="left", clickCount=1)

    async def type(self, text: str) -> None:
        await self.send("Input.insertText", text=text)

    async def press(self, key: str, *, shift: bool = False) -> None:
        codes = {"Enter": (13, "\r"), "Escape": (27, ""), "Tab": (9, "")}
        code, text = codes[key]
        known = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        await self.send("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **known)
        await self.send("Input.dispatchKeyEvent", type="keyUp", **known)

    async def screenshot(self) -> str:
        """PNG in base64."""
        return (await self.send("Page.captureScreenshot", format="png"))["data"]


@contextlib.asynccontextmanager
async def page(address: str, width: int = 1100, height: int = 760) -> AsyncIterator[Page]:
    """A page of a running browser."""
    async with aiohttp.ClientSession() as http, http.ws_connect(address, max_msg_size=0) as socket:
        made = Page(socket)
        reading = asyncio.create_task(made._read())
        try:
            await made.begin(width, height)
            yield made
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
