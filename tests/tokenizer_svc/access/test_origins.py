"""Web pages, and what they may do with a server on their reader's machine."""

from __future__ import annotations

import aiohttp
import pytest

from shared.protocol import Flush
from tests.tokenizer_svc.conftest import StartDoor
from tests.tokenizer_svc.downstream import Downstream
from tokenizer_svc.access.origins import Origins, parse_origins

HOST = {"Host": "localhost:30000"}


@pytest.mark.parametrize(
    ("headers", "permitted"),
    [
        ({}, True),  # no browser
        ({"Sec-Fetch-Site": "none"}, True),  # typed by its user
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),  # an image or a link of another page
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Origin": "http://localhost:30000"}, True),
        ({"Origin": "http://LOCALHOST:30000"}, True),
        ({"Origin": "http://localhost:3000"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
    ],
)
def test_pages_of_others(headers: dict[str, str], permitted: bool) -> None:
    assert Origins().permits(HOST | headers) is permitted


def test_pages_that_were_named() -> None:
    origins = Origins(parse_origins("https://chat.example/, http://localhost:3000"))
    assert origins.permits(HOST | {"Origin": "https://chat.example", "Sec-Fetch-Site": "cross-site"})
    assert origins.headers("https://chat.example")["Access-Control-Allow-Origin"] == "https://chat.example"
    for other in ("http://chat.example", "https://chat.example.evil.example", "https://evil.example", None):
        assert not origins.headers(other)
    assert Origins(parse_origins("*")).permits(HOST | {"Origin": "null"})


async def test_a_page_reaches_nothing(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    """Not even blindly, with requests that browsers send without asking."""
    page = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"}
    for method, path in (
        ("POST", "/v1/completions"),
        ("GET", "/flush_cache"),
        ("POST", "/flush_cache"),
        ("GET", "/health"),
    ):
        async with http.request(method, path, data=b'{"prompt": "a"}', headers=page) as response:
            assert response.status == 403, path
            assert not [name for name in response.headers if name.startswith("Access-Control")]
    async with http.options("/v1/completions", headers=page) as response:
        assert response.status == 403
    async with http.get("/flush_cache", headers={"Sec-Fetch-Site": "cross-site"}) as response:
        assert response.status == 403
    assert not downstream.generates
    assert not downstream.received(Flush)


async def test_a_page_that_was_named(start_door: StartDoor, url: str) -> None:
    await start_door(api_keys="alice:secret-of-alice", cors_origins="https://chat.example")
    page = {"Origin": "https://chat.example", "Sec-Fetch-Site": "cross-site"}
    async with aiohttp.ClientSession(url, headers=page) as http:
        asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        async with http.options("/v1/completions", headers=asking) as response:
            assert response.status == 204
            assert response.headers["Access-Control-Allow-Origin"] == "https://chat.example"
            assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
        async with http.post("/v1/completions", json={"prompt": "a"}) as response:
            assert response.status == 401, "a key is needed all the same"
            assert response.headers["Access-Control-Allow-Origin"] == "https://chat.example"
        key = {"Authorization": "Bearer secret-of-alice"}
        async with http.post("/v1/completions", json={"prompt": "a", "stream": True}, headers=key) as response:
            assert response.status == 200
            assert response.headers["Access-Control-Allow-Origin"] == "https://chat.example"


async def test_links_of_other_pages_lead_to_the_pages_and_nowhere_else(http: aiohttp.ClientSession) -> None:
    visit = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for path, status in (("/", 200), ("/docs", 200), ("/v1/models", 403), ("/flush_cache", 403)):
        async with http.get(path, headers=visit) as response:
            assert response.status == status, path
    for dest in ("iframe", "script", "image"):
        async with http.get("/", headers=visit | {"Sec-Fetch-Dest": dest}) as response:
            assert response.status == 403, dest
