"""A private directory for one run of the launcher: its socket, its data, nobody else's.

Whoever lives holds a lock in its directory, so that the next run can tell the dead ones' from the living
ones' and remove them, whatever process ids have been reused meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from shared.config import runtime_base

_PREFIX = "rootstream-"
_LONGEST_BASE = 70  # the path of a Unix socket is limited to about 100 bytes


@contextmanager
def private_directory(base: Path | None = None) -> Generator[Path]:
    """A fresh directory that only this user can enter, removed at the end; stale ones are removed first."""
    base = base or _base()
    remove_stale(base)
    hidden = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=base))
    with (hidden / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        directory = hidden.rename(base / hidden.name.removeprefix("."))  # seen by others only once it is locked
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def remove_stale(base: Path) -> None:
    """Remove directories of this user's runs that were killed."""
    for directory in base.glob(f"{_PREFIX}*"):
        try:
            if directory.is_symlink() or directory.stat().st_uid != os.getuid():
                continue
            with (directory / "lock").open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
        except OSError:  # no lock: not ours. Locked: alive. Gone: somebody else removed it
            continue


def _base() -> Path:
    base = runtime_base()
    return base if len(str(base)) <= _LONGEST_BASE else Path("/tmp")  # noqa: S108 - the directory in it is private
