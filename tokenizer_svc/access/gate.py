"""Who may use which route. Pure: a route's name and a presented key in, an identity or a refusal out.

What is not named here is for tenants: a new route is closed until somebody opens it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

from tokenizer_svc.access.keyring import Keyring
from tokenizer_svc.access.keys import tenant_of
from tokenizer_svc.access.tenants import ANYBODY, OPERATOR
from tokenizer_svc.api_error import ApiError


class Audience(enum.Enum):
    """For whom a route is."""

    ANYONE = enum.auto()
    TENANTS = enum.auto()
    OPERATORS = enum.auto()


PAGES = frozenset({"/", "/docs", "/pages/{name}"})
"""Static files, the same for everybody: they tell nothing of the server but that it is one."""

FOR_ANYONE = frozenset({"/health", "/ready", "/ping"}) | PAGES
FOR_OPERATORS = frozenset(
    {
        *("/metrics", "/server_info", "/get_server_info", "/flush_cache", "/reset_prefix_cache"),
        *("/pause_generation", "/continue_generation"),
    }
)
_UNDER_ADMIN = "/admin/"


def audience_of(route: str) -> Audience:
    """By the route's canonical path, as the router has it; empty for no route."""
    if route in FOR_OPERATORS or route.startswith(_UNDER_ADMIN):
        return Audience.OPERATORS
    return Audience.ANYONE if route in FOR_ANYONE else Audience.TENANTS


class Identity(NamedTuple):
    """Who a request comes from."""

    tenant: str
    is_operator: bool  # may do everything
    is_known: bool  # may be told how the server is made up; all are, where there are no keys


class Gate:
    """The rules of one listening port. Without any keys, and on a port of the operators' own without an admin key,
    whoever gets there is let in: :mod:`shared.exposure` sees to it that this is nobody from outside.
    """

    def __init__(self, tenants: Keyring, operators: Keyring, *, is_admin_port: bool = False) -> None:
        self._tenants = tenants
        self._operators = operators
        self._is_admin_port = is_admin_port

    def admit(self, route: str, headers: Mapping[str, str]) -> Identity:
        """Raises ApiError 401 for no key or a wrong one, 403 for a tenant on an operators' route."""
        audience = audience_of(route)
        presented = presented_key(headers)
        who = self._identify(presented)
        if who is None:
            if audience is Audience.ANYONE:
                return Identity(ANYBODY, is_operator=False, is_known=False)
            raise _unauthorized(wrong=presented is not None)
        if (audience is Audience.OPERATORS or self._is_admin_port) and not who.is_operator:
            raise self._forbidden(route) if who.tenant or presented is not None else _unauthorized(wrong=False)
        return who

    def _identify(self, presented: str | None) -> Identity | None:
        operators = self._operators.refresh() if self._operators.is_set else ()
        tenants = self._tenants.refresh() if self._tenants.is_set else ()
        if presented is not None:
            is_operator = tenant_of(operators, presented) is not None
            tenant = tenant_of(tenants, presented)
            if is_operator:
                return Identity(OPERATOR, is_operator=True, is_known=True)
            if tenant is not None:
                return Identity(tenant, is_operator=False, is_known=True)
        if self._is_admin_port:
            return None if self._operators.is_set else Identity(OPERATOR, is_operator=True, is_known=True)
        if self._tenants.is_set:
            return None
        return Identity(ANYBODY, is_operator=not self._operators.is_set, is_known=True)

    def _forbidden(self, route: str) -> ApiError:
        what = route or "this port"
        if self._operators.is_set:
            message = f"{what} is for operators: send the admin key"
        else:
            message = (
                f"{what} is for operators, who have no key yet: start the server with --admin-key-file (or "
                "ROOTSTREAM_ADMIN_KEY), or with an --admin-port of their own"
            )
        return ApiError(403, message, type="permission_error", code="operators_only")


def presented_key(headers: Mapping[str, str]) -> str | None:
    """The key in ``Authorization: Bearer …`` or ``x-api-key: …``; None for none."""
    authorization = headers.get("Authorization")
    if authorization is not None:
        scheme, _, key = authorization.partition(" ")
        return key.strip() if scheme.lower() == "bearer" else ""
    return headers.get("x-api-key")


def _unauthorized(*, wrong: bool) -> ApiError:
    what = "this key is not known here" if wrong else "a key is needed"
    error = ApiError(
        401,
        f"{what}: send yours in the header 'Authorization: Bearer …'",
        type="authentication_error",
        code="invalid_api_key",
    )
    error.headers["WWW-Authenticate"] = 'Bearer realm="rootstream"'
    return error
