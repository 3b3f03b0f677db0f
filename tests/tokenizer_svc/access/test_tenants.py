"""What a tenant's name does to its requests."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tokenizer_svc.access.tenants import ANYBODY, OPERATOR, Caller, tenant_of_account

TENANTS = st.sampled_from([ANYBODY, OPERATOR]) | st.text("Ab9_.-", min_size=1, max_size=8)
TEXTS = st.text(alphabet="ab/@\0", max_size=6) | st.text(max_size=6)


@given(TENANTS, TEXTS, TENANTS, TEXTS)
def test_two_tenants_never_share_a_namespace(one: str, salt: str, other: str, other_salt: str) -> None:
    """Whatever they send as cache_salt."""
    same = Caller(one).namespace(salt, shared=False) == Caller(other).namespace(other_salt, shared=False)
    assert same == ((one, salt) == (other, other_salt))


@given(TENANTS, TEXTS, TENANTS, TEXTS)
def test_a_shared_cache_is_divided_by_the_salt_alone(one: str, salt: str, other: str, other_salt: str) -> None:
    same = Caller(one).namespace(salt, shared=True) == Caller(other).namespace(other_salt, shared=True)
    assert same == (salt == other_salt)


@given(TENANTS, TEXTS, TENANTS, TEXTS)
def test_an_account_is_of_one_tenant(one: str, user: str, other: str, other_user: str) -> None:
    account = Caller(one, user).account
    assert tenant_of_account(account) == one
    same = (one, user) == (other, other_user) if one == ANYBODY else one == other
    assert (account == Caller(other, other_user).account) == same, "users are told apart where there are no keys"


@given(TENANTS, TEXTS, TEXTS, TEXTS)
def test_nobody_gets_more_turns_by_inventing_users(tenant: str, user: str, address: str, other: str) -> None:
    if tenant != ANYBODY:
        assert Caller(tenant, user, address).turn == Caller(tenant, other, other).turn == tenant
