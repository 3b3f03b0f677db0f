"""How answers are shown: Markdown as elements, and whatever a model writes as text."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest_asyncio

from shared.service import Context
from tests.browser.chromium import Page


@pytest_asyncio.fixture
async def shown(door: Context, url: str, page: Page) -> AsyncIterator[Page]:
    await page.open(url)
    yield page
    assert not [told for told in page.complaints if "/ready" not in told]
    assert all(address.startswith(url) for address in page.requested), "nothing from elsewhere"


async def html(page: Page, text: str) -> str:
    """The elements of a text, as the browser spells them."""
    return await page.eval(
        "import('/pages/markdown.js').then(({show}) => { const at = document.createElement('div'); "
        f"show(at, {json.dumps(text)}); return at.innerHTML; }})"
    )


REL = ' target="_blank" rel="noopener noreferrer nofollow"'


async def test_markdown_becomes_elements(shown: Page) -> None:
    for text, expected in {
        "a **b** *c* _d_ ~~e~~ `f*g*` ***h***": "<p>a <strong>b</strong> <em>c</em> <em>d</em> <del>e</del> "
        "<code>f*g*</code> <em><strong>h</strong></em></p>",
        "# One #\ntext\nmore  \nbroken": "<h1>One</h1><p>text\nmore<br>broken</p>",
        "- a\n- b\n  - c\n\n1. d\n   - e\n2. f": "<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul>"
        "<ol><li>d<ul><li>e</li></ul></li><li>f</li></ol>",
        "7. x\n\n> q\n> r\n\n---": '<ol start="7"><li>x</li></ol><blockquote><p>q\nr</p></blockquote><hr>',
        "- [x] done\n- [ ] to do": "<ul><li>☑ done</li><li>☐ to do</li></ul>",
        "|a|b|\n|-|:-:|\n|1|`2`|": '<div class="table" tabindex="0"><table><thead><tr><th scope="col">a</th>'
        '<th scope="col">b</th></tr></thead><tbody><tr><td>1</td><td><code>2</code></td></tr></tbody></table></div>',
        "[x](https://a.example/b_c_d) https://e.example/x.": f'<p><a href="https://a.example/b_c_d"{REL}>x</a> '
        f'<a href="https://e.example/x"{REL}>https://e.example/x</a>.</p>',
        "2 * 3 * 4, snake_case_name, \\*no\\*, a*": "<p>2 * 3 * 4, snake_case_name, *no*, a*</p>",
        "```js\nif (a < b) {}\n```": '<div class="block"><pre tabindex="0"><code>if (a &lt; b) {}</code></pre>'
        '<div class="label">js<button type="button">Copy</button></div></div>',
        "- a\n  ```\n  b\n  ```\n": '<ul><li>a<div class="block"><pre tabindex="0"><code>b</code></pre>'
        '<div class="label"><button type="button">Copy</button></div></div></li></ul>',
    }.items():
        assert await html(shown, text) == expected, text


async def test_nothing_that_a_model_writes_becomes_markup(shown: Page) -> None:
    for text in (
        "<img src=x onerror=alert(1)><script>alert(1)</script>",
        "[a](javascript:alert(1)) [b](data:text/html,x) <javascript:alert(1)> ![c](/flush_cache)",
        '[a](https://x.example/"onmouseover="alert(1)) `<b>` **<i>**',
        "```<svg onload=alert(1)>\n</code></pre><script>alert(1)</script>\n```",
    ):
        await html(shown, text)
        names = await shown.eval(
            "import('/pages/markdown.js').then(({show}) => { const at = document.createElement('div'); document.body"
            f".append(at); show(at, {json.dumps(text)}); return [...at.querySelectorAll('*')].flatMap(e => "
            "[e.tagName, ...[...e.attributes].map(a => a.name === 'href' ? a.value.split(':')[0] : a.name)]); })"
        )
        assert not {"IMG", "SCRIPT", "SVG", "B", "I", "javascript", "data", "onmouseover", "onerror"} & set(names), text


async def test_no_text_takes_long_and_every_prefix_can_be_shown(shown: Page) -> None:
    for hostile in (
        "[" * 50_000,
        "*a " * 20_000,
        "> " * 5_000 + "x",
        "- " * 5_000,
        "`" * 50_000,
        "# " * 30_000,
        "|" * 9_000,
    ):
        assert await html(shown, hostile), hostile[:10]
    text = "# T\n- a **b**\n  1. `c\n```py\nx\n```\n> q\n\n|a|\n|-|\n|1|\nhttps://a.example"
    same = await shown.eval(
        "import('/pages/markdown.js').then(({show}) => { const grown = document.createElement('div'); "
        f"const whole = document.createElement('div'); const text = {json.dumps(text)}; "
        "for (let n = 1; n <= text.length; n++) { show(grown, text.slice(0, n)); } show(whole, text); "
        "return grown.innerHTML === whole.innerHTML; })"
    )
    assert same, "shown piece by piece it is the same"
