"""Keys as they are written down, and whose key one is."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer_svc.access import keys
from tokenizer_svc.access.keys import BadKeys, parse_key_lines, parse_keys, tenant_of

_SECRETS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=",#:"), min_size=8)


def test_names_and_bare_keys() -> None:
    found = parse_keys("alice:secret-of-alice, secret-of-nobody ,bob:secret:of:bob,")
    assert tenant_of(found, "secret-of-alice") == "alice"
    assert tenant_of(found, "secret:of:bob") == "bob"
    unnamed = tenant_of(found, "secret-of-nobody")
    assert unnamed is not None
    assert unnamed.startswith("key-")
    assert "secret" not in unnamed


def test_lines_with_comments() -> None:
    text = "# who\n\nalice:secret-of-alice\n  bob:secret,of,bob  \nalice:her-next-one\n"
    found = parse_key_lines(text)
    assert [key.tenant for key in found] == ["alice", "bob", "alice"]
    assert tenant_of(found, "secret,of,bob") == "bob"
    assert tenant_of(found, "her-next-one") == "alice"


@given(st.lists(_SECRETS, unique=True, min_size=1), _SECRETS)
def test_a_key_opens_what_it_is_for_and_nothing_else(secrets: list[str], other: str) -> None:
    found = parse_key_lines("\n".join(f"tenant{n}:{secret}" for n, secret in enumerate(secrets)))
    for n, secret in enumerate(secrets):
        assert tenant_of(found, secret) == f"tenant{n}"
        assert tenant_of(found, secret[:-1]) in {
            None,
            *(f"tenant{m}" for m, s in enumerate(secrets) if s == secret[:-1]),
        }
    assert (tenant_of(found, other) is None) == (other not in secrets)


def test_no_secret_is_kept() -> None:
    assert "secret-of-alice" not in repr(parse_keys("alice:secret-of-alice"))


@pytest.mark.parametrize("presented", ["", "secret-of-alice", "not a key", "\udcff\udcfe", "ä" * 1000])
def test_every_key_is_compared_whole(presented: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However soon one is found: time says nothing of which, or how much of it, was right."""
    compared: list[int] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append(len(a) + len(b))
        return hmac.compare_digest(a, b)

    class Watched:
        compare_digest = staticmethod(compare)

    found = parse_keys("alice:secret-of-alice,bob:secret-of-bob,carol:secret-of-carol")
    monkeypatch.setattr(keys, "hmac", Watched)
    tenant_of(found, presented)
    assert compared == [64, 64, 64]


@pytest.mark.parametrize(
    "text",
    [
        "short",
        "alice:short",
        ":no-name-but-a-colon",
        "a b:secret-of-ab",
        "x" * 65 + ":secret-of-x",
        "ünïcode-kéys",
        "@operator:abcdefgh",
        "alice:one-and-the-same,bob:one-and-the-same",
    ],
)
def test_what_is_no_key_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(BadKeys) as error:
        parse_keys(text)
    assert text not in str(error.value)
    for entry in text.split(","):
        assert entry.partition(":")[2] not in str(error.value) or not entry.partition(":")[2]
