"""A browser for the tests of pages, one for all of them; skipped where there is none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.browser import chromium
from tests.browser.chromium import Page


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = chromium.executable()
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(chromium.NAMES)} is on the PATH; on Debian: apt install chromium")
    with chromium.running(path, tmp_path_factory.mktemp("browser")) as address:
        yield address


@pytest_asyncio.fixture
async def page(browser: str) -> AsyncIterator[Page]:
    async with chromium.page(browser) as page:
        yield page
