"""What a tenant's name does to its requests: cached prefixes of its own, and its own account at the scheduler.

A tenant's name has no slash; what a client sends comes after the first one and can hold anything. So no client can
write what looks like another tenant's.
"""

from __future__ import annotations

from typing import NamedTuple

ANYBODY = ""
"""The one tenant of a server without keys."""

OPERATOR = "@operator"
"""The tenant of requests under the admin key: no key of a tenant can have this name."""


class Caller(NamedTuple):
    """Who asks for text."""

    tenant: str = ANYBODY
    user: str = ""  # as the tenant tells its own users apart
    address: str = ""

    @property
    def account(self) -> str:
        """On whose behalf tokens are computed: the tenant's, and where there are no keys that of a user.

        Not of both: a tenant who invents users would get a share for each.
        """
        return self.tenant or (f"/{self.user}" if self.user else ANYBODY)

    @property
    def turn(self) -> str:
        """Who takes turns with others at what is scarce in this process."""
        return self.tenant or f"{self.account}\0{self.address}"

    def namespace(self, salt: str, *, shared: bool) -> str:
        """Where cached prefixes may come from: the tenant's own, further divided by ``cache_salt``.

        ``shared``: one cache for all tenants, divided by the salt alone.
        """
        return salt_of(ANYBODY if shared else self.tenant, salt)


def salt_of(tenant: str, salt: str) -> str:
    """A namespace for every pair of both; different pairs have different ones."""
    return f"{tenant}/{salt}" if tenant or salt else ""


def tenant_of_account(account: str) -> str:
    """The tenant in a :attr:`Caller.account`."""
    return account.partition("/")[0]
