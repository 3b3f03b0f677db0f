"""Keys in force, from settings and from a file that changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shared.errors import UserError
from tokenizer_svc.access.keyring import Keyring
from tokenizer_svc.access.keys import tenant_of


class Clock:
    """A clock that the test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("alice:secret-of-alice\n")
    return path


def test_both_sources(file: Path) -> None:
    ring = Keyring("api_keys", "bob:secret-of-bob", file)
    assert {tenant_of(ring.keys, f"secret-of-{name}") for name in ("alice", "bob", "carol")} == {"alice", "bob", None}
    assert ring.is_set
    assert not Keyring("api_keys", None, None).is_set


def test_a_changed_file_is_read_again_a_second_later(file: Path, clock: Clock) -> None:
    ring = Keyring("api_keys", None, file, clock)
    file.write_text("carol:secret-of-carol-and-more\n")
    clock.now = 0.5
    assert tenant_of(ring.refresh(), "secret-of-alice") == "alice", "not looked at yet"
    clock.now = 1.0
    assert tenant_of(ring.refresh(), "secret-of-alice") is None
    assert tenant_of(ring.refresh(), "secret-of-carol-and-more") == "carol"


def test_an_emptied_file_opens_nothing(file: Path, clock: Clock) -> None:
    ring = Keyring("api_keys", None, file, clock)
    file.write_text("# nobody\n")
    clock.now = 1.0
    assert not ring.refresh()
    assert ring.is_set, "no keys is not the same as nobody asking for any"


@pytest.mark.parametrize("gone", [False, True])
def test_a_file_that_becomes_unusable_leaves_the_keys_as_they_were(file: Path, clock: Clock, gone: bool) -> None:
    ring = Keyring("api_keys", None, file, clock)
    if gone:
        file.unlink()
    else:
        file.write_text("bad name:MARKER-of-somebody\n")
    clock.now = 1.0
    with capture_logs() as lines:
        assert tenant_of(ring.refresh(), "secret-of-alice") == "alice"
    [line] = lines
    assert line["event"] == "keys stay as they were"
    assert "MARKER" not in str(line)


@pytest.mark.parametrize(
    ("given", "content", "says"),
    [
        (None, "", r"--api-keys-file .*holds no key"),
        (None, None, r"--api-keys-file .*No such file"),
        (None, "a b:MARKER-of-ab", r"--api-keys-file .*line 1 has a name"),
        ("MARKER", "alice:secret-of-alice", r"--api-keys: key 1 must have 8 to 512"),
        (" , ", None, r"--api-keys holds no key|No such file"),
    ],
)
def test_keys_that_cannot_be_used_end_the_start(
    given: str | None, content: str | None, says: str, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError, match=says) as error:
        Keyring("api_keys", given, file)
    assert "MARKER" not in str(error.value)
