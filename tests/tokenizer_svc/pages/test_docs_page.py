"""The documentation page in a real browser."""

from __future__ import annotations

import json

from tests.browser.chromium import Page
from tests.tokenizer_svc.conftest import StartDoor
from tokenizer_svc.openapi_operations import OPERATIONS

KEYS = "a:secret-of-alice"


async def test_every_operation_is_shown_and_can_be_tried(start_door: StartDoor, url: str, page: Page) -> None:
    await start_door(api_keys=KEYS)
    await page.open(f"{url}/docs")
    await page.until("document.querySelector('#trouble').textContent.includes('API key')")
    await page.type("secret-of-alice")
    await page.press("Enter")
    await page.until("document.querySelectorAll('section.operation').length")
    page.complaints.clear()  # of the answer 401
    shown = await page.eval("[...document.querySelectorAll('section.operation')].map(each => each.ariaLabel)")
    assert sorted(shown) == sorted(" ".join(route) for route in OPERATIONS)
    fields = await page.eval("document.querySelector('#complete').innerText")
    assert "temperature" in fields
    assert "from 0 to 2" in fields
    call = await page.eval("document.querySelector('#complete .call code').textContent")
    assert call.startswith(f"curl -X POST {url}/v1/completions \\\n")
    assert json.loads(call.rpartition("-d '")[2].removesuffix("'"))["prompt"]
    await page.click("#complete .try summary")
    await page.click("#complete .try .primary")
    await page.until("document.querySelector('#complete [role=status]').textContent.startsWith('200')")
    answer = json.loads(await page.eval("document.querySelector('#complete .answer pre').textContent"))
    assert answer["choices"][0]["text"] == "Hello wörld"
    for details in ("#chat > details:last-of-type > summary", "#chat tr details summary"):
        await page.click(details)
        await page.until(f"document.querySelector({json.dumps(details)}).parentElement.children.length > 1")
    await page.click("#find")
    await page.type("flush")
    left = await page.eval(
        "[...document.querySelectorAll('section.operation:not([hidden])')].map(each => each.ariaLabel)"
    )
    assert "POST /flush_cache" in left
    assert len(left) < len(shown)
    assert page.complaints == []
    assert all(address.startswith(url) for address in page.requested), "nothing from elsewhere"
