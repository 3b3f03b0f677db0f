"""What may be reached from where."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.config import Settings
from shared.errors import UserError
from shared.exposure import check_exposure, is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)
    check_exposure(Settings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "::ffff:192.0.2.1", "no-such-name.invalid"])
def test_elsewhere_a_key_is_needed(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(UserError, match=r"--api-keys-file.*ROOTSTREAM_API_KEYS.*--allow-unauthenticated"):
        check_exposure(Settings(host=host))
    check_exposure(Settings(host=host, api_keys="secret-of-alice"))
    check_exposure(Settings(host=host, api_keys_file=Path("keys")))
    check_exposure(Settings(host=host, allow_unauthenticated=True))


def test_an_admin_key_lets_nobody_generate() -> None:
    with pytest.raises(UserError, match="no API key is set"):
        check_exposure(Settings(host="0.0.0.0", admin_key="secret-of-operators"))


def test_what_counts_is_where_clients_reach_it() -> None:
    check_exposure(Settings(host="0.0.0.0", published_host="127.0.0.1"))
    with pytest.raises(UserError, match=r"192\.0\.2\.1 can be reached"):
        check_exposure(Settings(host="127.0.0.1", published_host="192.0.2.1"))


def test_the_operators_port_needs_the_operators_key_elsewhere() -> None:
    check_exposure(Settings(admin_port=30001))
    with pytest.raises(UserError, match=r"--admin-host 0\.0\.0\.0.*--admin-key-file"):
        check_exposure(Settings(admin_port=30001, admin_host="0.0.0.0", api_keys="secret-of-alice"))
    check_exposure(Settings(admin_port=30001, admin_host="0.0.0.0", admin_key="secret-of-operators"))
