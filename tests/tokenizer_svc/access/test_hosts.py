"""Names that a server answers to."""

from __future__ import annotations

import pytest

from tokenizer_svc.access.hosts import Hosts, accepted_names, name_in, parse_hosts


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost", "localhost"),
        ("LocalHost:30000", "localhost"),
        ("localhost.:30000", "localhost"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("[::1]:30000", "[::1]"),
        ("localhost:", "localhost"),
        ("localhost:evil.example", "localhost:evil.example"),
        ("::1", "::1"),
    ],
)
def test_the_name_without_its_port(host: str, name: str) -> None:
    assert name_in(host) == name


def test_a_loopback_address_goes_by_its_own_names_and_those_allowed() -> None:
    hosts = Hosts(accepted_names("127.0.0.1", parse_hosts("Proxy.example, other"), is_local=True))
    for name in ("localhost:30000", "127.0.0.1", "[::1]:1", "proxy.example:443", "OTHER"):
        assert hosts.accepts(name), name
    for name in (
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example:80",
        "127.0.0.2",
        "",
        "localhost@evil",
        "*",
    ):
        assert not hosts.accepts(name), name


def test_requests_without_a_name() -> None:
    hosts = Hosts(accepted_names("127.0.0.1", (), is_local=True))
    assert hosts.accepts(None, is_old=True), "no browser sends HTTP/1.0"
    assert not hosts.accepts(None)


def test_elsewhere_all_names_are_accepted_unless_some_are_given() -> None:
    assert Hosts(accepted_names("0.0.0.0", (), is_local=False)).accepts("what.ever")
    named = Hosts(accepted_names("0.0.0.0", {"llm.example"}, is_local=False))
    assert named.accepts("llm.example:443")
    assert named.accepts("127.0.0.1:30000"), "from this machine"
    assert not named.accepts("evil.example")


def test_a_star_accepts_all() -> None:
    assert Hosts(accepted_names("127.0.0.1", parse_hosts("*"), is_local=True)).accepts("evil.example")


def test_an_address_of_version_6() -> None:
    assert Hosts(accepted_names("::1", (), is_local=True)).accepts("[::1]:30000")
