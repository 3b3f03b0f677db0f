"""`rootstream doctor`: what it finds, and what it calls missing."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

from rootstream import doctor
from shared.config import Settings
from tests.stack import free_port


def findings(settings: Settings) -> dict[str, doctor.Finding]:
    return {finding.subject: finding for finding in doctor.examine(settings)}


def test_a_machine_that_runs_the_tests_can_serve(toy_model: Path) -> None:
    found = findings(Settings(model=str(toy_model), port=free_port()))
    assert [finding for finding in found.values() if not finding.ok] == []
    assert str(toy_model) in found["model"].text
    assert "embedded server starts" in found["Redis"].text
    assert found["torch"].text[0].isdigit()


def test_what_is_missing_is_marked_and_fails(tmp_path: Path) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        settings = Settings(model=str(tmp_path / "none.gguf"), port=taken.getsockname()[1])
        found = findings(settings)
        assert {subject for subject, finding in found.items() if not finding.ok} == {"model", "port"}
        assert "none.gguf" in found["model"].text
        assert doctor.run(settings) == 1
