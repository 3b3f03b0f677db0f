"""The file whose age tells a container's health check that this process is ready."""

from __future__ import annotations

import os
from pathlib import Path

from shared.bus import Bus
from shared.config import Settings
from shared.registry import Role, State
from shared.service import Context


async def test_only_a_ready_process_touches_its_pulse_file(bus: Bus, tmp_path: Path) -> None:
    file = tmp_path / "pulse"
    context = Context(Role.SCHEDULER, Settings(replica="a", pulse_file=file), bus)
    await context.beat()
    assert not file.exists()
    await context.announce(State.READY)
    os.utime(file, (0, 0))
    await context.beat()
    assert file.stat().st_mtime > 0
    os.utime(file, (0, 0))
    await context.announce(State.STOPPING)
    assert file.stat().st_mtime == 0
