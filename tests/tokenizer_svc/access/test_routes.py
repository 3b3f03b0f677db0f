"""Keys at a real front door: every route is closed without one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio
from aiohttp import web

from shared.errors import UserError
from shared.protocol import AbortMany, Flush, Generate
from shared.service import Context
from tests.stack import free_port
from tests.tokenizer_svc.conftest import StartDoor
from tests.tokenizer_svc.downstream import Downstream, endless
from tokenizer_svc.access.gate import FOR_ANYONE, PAGES, Audience, audience_of
from tokenizer_svc.pages.routes import CHAT, DOCS, FILES, files

ALICE, BOB, OPERATOR = "secret-of-alice", "secret-of-bob", "secret-of-operators"
SHOWN = {file.body for file in files().values()}
KEYS = f"alice:{ALICE},bob:{BOB}"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def apps(monkeypatch: pytest.MonkeyPatch) -> list[web.Application]:
    """Every application that a front door serves, as it is made."""
    made: list[web.Application] = []
    make = web.AppRunner.__init__

    def watched(self: web.AppRunner, app: web.Application, **options: Any) -> None:
        made.append(app)
        make(self, app, **options)

    monkeypatch.setattr(web.AppRunner, "__init__", watched)
    return made


@pytest_asyncio.fixture
async def door(start_door: StartDoor) -> Context:
    return await start_door(api_keys=KEYS, admin_key=OPERATOR)


@pytest_asyncio.fixture
async def http(door: Context, url: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(url) as session:
        yield session


@pytest.fixture
def admin_port() -> int:
    return free_port()


def routes(app: web.Application) -> set[tuple[str, str]]:
    """Method and canonical path of all routes."""
    return {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None}


async def test_every_route_is_closed_without_a_key(apps: list[web.Application], http: aiohttp.ClientSession) -> None:
    """Whatever the router has: who adds a route has to open it, not to close it."""
    [app] = apps
    tried = 0
    for method, path in sorted(routes(app)):
        for headers in ({}, bearer("secret-of-nobody"), {"x-api-key": "nope"}, {"Authorization": f"Basic {ALICE}"}):
            filled = path.replace("{model}", "toy").replace("{name}", "chat.js")
            async with http.request(method, filled, headers=headers) as response:
                if path in PAGES:
                    assert response.status == 200, path
                    assert method == "HEAD" or await response.read() in SHOWN, "the same files for everybody"
                    continue
                if path in FOR_ANYONE:
                    assert response.status in {200, 503}, path  # whether it is ready is another matter
                    assert method == "HEAD" or set(await response.json()) <= {"status", "ready"}, (
                        "no word of the inside"
                    )
                    continue
                assert response.status == 401, (method, path, headers)
                assert response.headers["WWW-Authenticate"].startswith("Bearer")
                if method != "HEAD":
                    error = (await response.json())["error"]
                    assert error["type"] == "authentication_error"
                    assert error.get("code", "invalid_api_key") == "invalid_api_key", "Anthropic's errors have none"
                tried += 1
    assert tried >= 4 * 9
    assert {path for _, path in routes(app)} >= {"/v1/chat/completions", "/v1/completions", "/generate", "/metrics"}


@pytest.mark.parametrize(
    "path",
    [
        "/docs/",
        "/pages/",
        "/pages/../metrics",
        "/nothing/here",
        "/health/",
        "/ready/../metrics",
        "/v1/models/../../metrics",
    ],
)
async def test_what_is_no_route_is_closed_too(http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(path) as response:
        assert response.status == 401


async def test_what_a_route_does_not_take_is_told_to_those_with_a_key(http: aiohttp.ClientSession) -> None:
    for headers, status in (({}, 401), (bearer(ALICE), 405)):
        async with http.post("/health", headers=headers) as response:
            assert response.status == status


async def test_every_operators_route_is_closed_to_tenants(
    apps: list[web.Application], http: aiohttp.ClientSession, downstream: Downstream
) -> None:
    [app] = apps
    closed = [(method, path) for method, path in routes(app) if audience_of(path) is Audience.OPERATORS]
    assert {path for _, path in closed} == {
        *("/metrics", "/server_info", "/get_server_info", "/flush_cache", "/reset_prefix_cache"),
        *("/pause_generation", "/continue_generation"),
    }
    for method, path in closed:
        async with http.request(method, path, headers=bearer(ALICE)) as response:
            assert response.status == 403, path
        assert not downstream.received(Flush)
    for method, path in closed:
        async with http.request(method, path, headers=bearer(OPERATOR)) as response:
            assert response.status == 200, path


async def test_keys_open(http: aiohttp.ClientSession) -> None:
    for headers in (bearer(ALICE), {"Authorization": f"bearer  {ALICE} "}, {"x-api-key": BOB}, bearer(OPERATOR)):
        async with http.post("/v1/completions", json={"prompt": "a"}, headers=headers) as response:
            assert response.status == 200, headers
    async with http.get("/health", headers=bearer(ALICE)) as response:
        assert set((await response.json())["processes"]) == {"tokenizer", "scheduler", "worker", "detokenizer"}


async def test_openais_client(door: Context, url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=ALICE, max_retries=0) as client:
        assert (await client.models.list()).data[0].id == "toy"
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError, match="not known here"):
            await client.models.list()


async def test_requests_carry_their_tenant(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    for headers, body in (
        (bearer(ALICE), {"user": "u/1", "cache_salt": "s"}),
        (bearer(BOB), {"cache_salt": "s"}),
        (bearer(OPERATOR), {}),
    ):
        async with http.post("/v1/completions", json={"prompt": "a", **body}, headers=headers) as response:
            assert response.status == 200
    found = [(generate.tenant, generate.namespace) for generate in downstream.generates.values()]
    assert found == [("alice", "alice/s"), ("bob", "bob/s"), ("@operator", "@operator/")]


async def test_a_shared_cache(start_door: StartDoor, url: str, downstream: Downstream) -> None:
    await start_door(api_keys=KEYS, share_cache=True)
    async with aiohttp.ClientSession(url) as http:
        for key in (ALICE, BOB):
            async with http.post("/generate", json={"text": "a"}, headers=bearer(key)) as response:
                assert response.status == 200
    generates: list[Generate] = list(downstream.generates.values())
    assert [generate.namespace for generate in generates] == ["", ""]
    assert [generate.tenant for generate in generates] == ["alice", "bob"]


async def test_tenants_abort_their_own_requests_only(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    downstream.script = endless

    async def abort(id: int, key: str) -> None:
        async with http.post("/abort_request", json={"rid": f"gen-{id:016x}"}, headers=bearer(key)) as response:
            assert (response.status, await response.json()) == (200, {"success": True}), (
                "whether it is there is not told"
            )

    async with http.post("/generate", json={"text": ["a", "b"], "stream": True}, headers=bearer(ALICE)) as response:
        await downstream.until(lambda: len(downstream.generates) == 2)
        first, second = downstream.generates
        await abort(first, BOB)
        await abort(second, ALICE)
        await downstream.until(lambda: downstream.aborted == {second})
        await abort(first, OPERATOR)
        assert (await response.read()).endswith(b"data: [DONE]\n\n")


async def test_tenants_abort_by_names_among_their_own(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    for body in ({"rid": "job"}, {"abort_all": True}):
        for key, tenant in ((BOB, "bob"), (OPERATOR, None)):
            async with http.post("/abort_request", json=body, headers=bearer(key)) as response:
                assert response.status == 200
            order = AbortMany(tenant, "job" if "rid" in body else None, "the request was aborted")
            await downstream.until(lambda order=order: order in downstream.received(AbortMany))


async def test_without_an_admin_key_operators_are_told_what_to_do(start_door: StartDoor, url: str) -> None:
    await start_door(api_keys=KEYS)
    async with aiohttp.ClientSession(url, headers=bearer(ALICE)) as http, http.get("/metrics") as response:
        assert response.status == 403
        assert "--admin-key-file" in (await response.json())["error"]["message"]


async def test_an_admin_key_alone_closes_operators_routes_only(start_door: StartDoor, url: str) -> None:
    await start_door(admin_key=OPERATOR)
    async with aiohttp.ClientSession(url) as http:
        async with http.post("/generate", json={"text": "a"}, headers=bearer("none")) as response:
            assert response.status == 200
        async with http.get("/metrics") as response:
            assert response.status == 401
        async with http.get("/metrics", headers=bearer("none")) as response:
            assert response.status == 403
        async with http.get("/metrics", headers=bearer(OPERATOR)) as response:
            assert response.status == 200


@pytest.mark.parametrize("admin_key", [None, OPERATOR])
async def test_a_port_of_the_operators_own(
    apps: list[web.Application], start_door: StartDoor, url: str, admin_key: str | None, admin_port: int
) -> None:
    await start_door(api_keys=KEYS, admin_key=admin_key, admin_port=admin_port)
    public, admin = apps
    assert not {path for _, path in routes(public)} & {"/metrics", "/server_info", "/flush_cache"}
    assert not {path for _, path in routes(admin)} & {"/v1/completions", "/v1/chat/completions", "/generate"}
    async with aiohttp.ClientSession(headers=bearer(ALICE)) as http:
        async with http.get(f"{url}/metrics") as response:
            assert response.status == 404
        async with http.get(f"http://127.0.0.1:{admin_port}/metrics") as response:
            assert response.status == 403, "a tenant stays a tenant"
    headers = bearer(admin_key) if admin_key else {}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{admin_port}") as http:
        async with http.get("/metrics", headers=headers) as response:
            assert response.status == 200
        async with http.get("/metrics") as response:
            assert response.status == (401 if admin_key else 200)


async def test_a_key_taken_from_the_file_opens_nothing_any_more(
    start_door: StartDoor, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenizer_svc.access.keyring._LOOK_S", 0.0)
    file = tmp_path / "keys"
    file.write_text(f"alice:{ALICE}\n")
    await start_door(api_keys_file=file)
    async with aiohttp.ClientSession(url) as http:
        for names, expected in (("alice", (200, 401)), ("bob", (401, 200)), ("alice\nbob", (200, 200))):
            file.write_text("".join(f"{name}:secret-of-{name}\n" for name in names.splitlines()) + "# changed\n")
            for key, status in zip((ALICE, BOB), expected, strict=True):
                async with http.get("/v1/models", headers=bearer(key)) as response:
                    assert response.status == status


async def test_no_public_address_without_a_key(start_door: StartDoor) -> None:
    with pytest.raises(UserError, match="no API key is set"):
        await start_door(host="0.0.0.0")


async def test_names_that_a_page_made_lead_here(start_door: StartDoor, url: str) -> None:
    await start_door(allowed_hosts="llm.example")
    async with aiohttp.ClientSession(url) as http:
        for name in ("localhost", "127.0.0.1:1", "LLM.example:443"):
            async with http.get("/ping", headers={"Host": name}) as response:
                assert response.status == 200, name
        for path in ("/health", "/v1/models", "/nothing"):
            async with http.get(path, headers={"Host": "evil.example"}) as response:
                assert response.status == 421
                assert "--allowed-hosts" in (await response.json())["error"]["message"]


async def test_an_old_client_needs_no_name(door: Context, port: int) -> None:
    """HAProxy's health checks are such."""
    for version, status in (("1.0", b"200"), ("1.1", b"400")):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /ping HTTP/{version}\r\nConnection: close\r\n\r\n".encode())
        assert (await reader.read()).split(b" ")[1] == status
        writer.close()
        await writer.wait_closed()


def test_every_audience_is_decided() -> None:
    assert {CHAT, DOCS, FILES} == PAGES
    assert audience_of("/admin/pause") is Audience.OPERATORS
    assert audience_of("/some/new/route") is Audience.TENANTS
    assert audience_of("") is Audience.TENANTS
