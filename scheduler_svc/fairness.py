"""Who pays for what, and whose row makes room for whom. Pure rules over requests and tenants' accounts.

Rows are shared max-min: one moves from a tenant to another that has at least two fewer. Then nobody has a reason
to take it back, so rows do not go back and forth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from scheduler_svc.request import Request
from scheduler_svc.tenants import OUTPUT_WEIGHT, PROMPT_WEIGHT, Tenant


def charge_prompt(request: Request, end: int) -> None:
    """Its prompt up to ``end`` is computed or planned; what was charged before, or was cached, is free."""
    new = min(end, request.prompt_len) - request.prefilled
    if new > 0:
        request.tenant.served += PROMPT_WEIGHT * new
        request.prefilled += new


def charge_output(requests: Iterable[Request]) -> None:
    """They have the output that they have."""
    for request in requests:
        new = len(request.output) - request.billed
        if new:
            request.tenant.served += OUTPUT_WEIGHT * new
            request.billed += new


def precedes(tenant: Tenant, priority: int, row: Request) -> bool:
    """Should a waiting request of ``tenant`` be computed before the rest of a row's prompt?"""
    return tenant is not row.tenant and priority >= row.generate.priority and tenant.served < row.tenant.served


def by_service(row: Request) -> tuple[int, int]:
    """The order in which prompts are computed, of several tenants' rows."""
    return -row.generate.priority, row.tenant.served


def dispensable(row: Request) -> tuple[int, int, int]:
    """Greater for the row to give up first: a lower priority, a tenant with more rows, a younger request."""
    return -row.generate.priority, row.tenant.rows, row.order


def displaceable(
    rows: Iterable[Request], tenant: Tenant, priority: int, can_go: Callable[[Request], bool]
) -> Request | None:
    """The row that makes room for one of ``tenant``: the youngest of the tenant that has most, if it has two more."""
    least = tenant.rows + 2
    found = (row for row in rows if row.tenant.rows >= least and row.generate.priority <= priority and can_go(row))
    return max(found, key=lambda row: (row.tenant.rows, -row.generate.priority, row.order), default=None)
