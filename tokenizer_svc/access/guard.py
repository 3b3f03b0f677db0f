"""The guard before all routes: names of hosts, origins of pages, then keys. What passes carries its identity.

Knows aiohttp; the rules are in gate.py, hosts.py and origins.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Handler, Middleware

from shared.config import Settings
from shared.exposure import is_loopback, public_host
from tokenizer_svc.access.gate import PAGES, Gate, Identity
from tokenizer_svc.access.hosts import Hosts, accepted_names, parse_hosts
from tokenizer_svc.access.keyring import Keyring
from tokenizer_svc.access.origins import Origins, is_visit, parse_origins
from tokenizer_svc.access.tenants import Caller
from tokenizer_svc.api_error import ApiError

_IDENTITY = web.RequestKey("identity", Identity)


class Access(NamedTuple):
    """The rules of one listening port."""

    gate: Gate
    hosts: Hosts
    origins: Origins


class Doors(NamedTuple):
    """The rules of the clients' port, and of the operators' own where there is one."""

    public: Access
    admin: Access | None


def doors(settings: Settings) -> Doors:
    """The rules that the settings make. Raises UserError for keys that cannot be used."""
    tenants = Keyring("api_keys", settings.api_keys, settings.api_keys_file)
    operators = Keyring("admin_key", settings.admin_key, settings.admin_key_file)
    allowed = parse_hosts(settings.allowed_hosts)

    def hosts(host: str) -> Hosts:
        return Hosts(accepted_names(host, allowed, is_local=is_loopback(host)))

    origins = Origins(parse_origins(settings.cors_origins))
    public = Access(Gate(tenants, operators), hosts(public_host(settings)), origins)
    if settings.admin_port is None:
        return Doors(public, None)
    return Doors(public, Access(Gate(tenants, operators, is_admin_port=True), hosts(settings.admin_host), Origins()))


def guard(access: Access) -> Middleware:
    """Let in who may come in, and note who it is."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host")
        if not access.hosts.accepts(host, is_old=request.version < HttpVersion11):
            message = (
                f"this server does not go by the name {host!r}: use localhost, or start it with --allowed-hosts naming "
                "what clients call it"
            )
            raise ApiError(421, message, code="unknown_host")
        resource = request.match_info.route.resource
        route = "" if resource is None else resource.canonical
        if not access.origins.permits(request.headers) and not (route in PAGES and is_visit(request.headers)):
            message = (
                "web pages of other origins may not use this server: name theirs with --cors-origins if they should"
            )
            raise ApiError(403, message, type="permission_error", code="foreign_origin")
        if request.method == "OPTIONS" and access.origins.allows(request.headers.get("Origin", "")):
            return web.Response(status=204, headers=access.origins.preflight())  # browsers ask without a key
        request[_IDENTITY] = access.gate.admit(route, request.headers)
        return await handler(request)

    return middleware


def sharing(access: Access) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Marks responses that pages of other origins may see."""

    async def mark(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(access.origins.headers(request.headers.get("Origin")))

    return mark


def identity_of(request: web.Request) -> Identity:
    """Who the guard let in."""
    return request[_IDENTITY]


def identity_if_known(request: web.Request) -> Identity | None:
    """The same; None for who was not let in."""
    return request.get(_IDENTITY)


def tenant_of(request: web.Request) -> str:
    """The tenant that a request belongs to; empty where there are no keys."""
    return identity_of(request).tenant


def caller_of(request: web.Request, user: str | None) -> Caller:
    """Who asks for text."""
    return Caller(tenant_of(request), user or "", request.remote or "")
