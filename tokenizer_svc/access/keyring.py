"""The keys in force: those of the settings, and those of a file that may change while it is served.

Owns the reading of key files. Knows nothing of HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from shared.errors import UserError
from tokenizer_svc.access.keys import BadKeys, Key, parse_key_lines, parse_keys

log = structlog.get_logger("access")

_LOOK_S = 1.0  # a key that was taken away opens nothing after this


class _Stamp(NamedTuple):
    """What changes when a file does."""

    modified: int
    size: int
    inode: int


class Keyring:
    """Keys from both sources. ``what`` is the setting's name: ``<what>`` and ``<what>_file``.

    Raises UserError at the start for keys that cannot be used. A file that becomes unusable later leaves the keys as
    they were, and the log says so.
    """

    def __init__(
        self, what: str, given: str | None, file: Path | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._flag = f"--{what.replace('_', '-')}"
        self.is_set = given is not None or file is not None
        self._file = None if file is None else file.expanduser()
        self._clock = clock
        self._stamp: _Stamp | None = None
        self._looked = clock()
        try:
            self._given = [] if given is None else parse_keys(given)
        except BadKeys as error:
            raise UserError(f"{self._flag}: {error}") from error
        try:
            self._read = self._look() or []
        except (OSError, BadKeys) as error:
            raise UserError(f"{self._flag}-file {file}: {_reason(error)}") from error
        if self.is_set and not self.keys:
            raise UserError(
                f"{self._flag}{'' if file is None else f'-file {file}'} holds no key: write one, or leave it out"
            )

    @property
    def keys(self) -> Sequence[Key]:
        return [*self._given, *self._read]

    def refresh(self) -> Sequence[Key]:
        """The keys in force now; looks at the file at most once a second."""
        now = self._clock()
        if self._file is not None and now - self._looked >= _LOOK_S:
            self._looked = now
            try:
                changed = self._look()
            except (OSError, BadKeys) as error:
                log.error("keys stay as they were", file=str(self._file), error=_reason(error))
            else:
                if changed is not None:
                    self._read = changed
                    log.info("keys read again", file=str(self._file), keys=len(changed))
        return self.keys

    def _look(self) -> list[Key] | None:
        """What the file holds, None where it has not changed (or there is none)."""
        if self._file is None:
            return None
        found = self._file.stat()
        stamp = _Stamp(found.st_mtime_ns, found.st_size, found.st_ino)
        if stamp == self._stamp:
            return None
        self._stamp = stamp  # also of a bad file: it is reported once
        return parse_key_lines(self._file.read_text())


def _reason(error: Exception) -> str:
    return (error.strerror or "cannot be read") if isinstance(error, OSError) else str(error)
