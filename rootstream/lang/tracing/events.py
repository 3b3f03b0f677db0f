"""Chrome's trace events, and the file that they are written into as they happen.

The format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU, its array form, where the
closing bracket may be missing, so that the file of a process that died opens as well. Knows nothing of programs.
"""

from __future__ import annotations

import threading
import time
import warnings
from pathlib import Path
from typing import Any, Literal, Self

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the file; ``ts`` and ``dur`` in microseconds, ``pid`` and ``tid`` name a row."""

    name: str
    ph: Literal[
        "B", "E", "X", "i", "C", "M", "s", "f"
    ]  # begin, end, whole, instant, counter, metadata, arrow from and to
    pid: int
    tid: int = msgspec.field(default_factory=int)  # written always, as readers want it
    ts: float = msgspec.field(default_factory=float)
    cat: str | None = None
    dur: float | None = None
    s: Literal["t", "p", "g"] | None = None  # how far an instant reaches
    id: int | None = None  # of an arrow
    bp: Literal["e"] | None = None  # an arrow ends at the slice around it
    args: dict[str, Any] | None = None


class EventFile:
    """A trace under way. Its events come from any thread; after its end they are dropped."""

    def __init__(self, path: Path) -> None:
        """Raises OSError where the file cannot be written."""
        self.path = path
        self._file = path.open("wb", buffering=0)
        self._lock = threading.Lock()
        self._began = time.perf_counter_ns()
        self._is_first = True
        self._file.write(b"[")

    def now(self) -> float:
        return (time.perf_counter_ns() - self._began) / 1000

    def write(self, *events: Event) -> None:
        """All with one write, so that a process that is killed leaves whole events. A full disk ends the trace and
        not the program.
        """
        lines = b",\n".join(map(msgspec.json.encode, events))
        with self._lock:
            if self._file.closed:
                return
            self._put((b"\n" if self._is_first else b",\n") + lines)
            self._is_first = False

    def close(self) -> None:
        with self._lock:
            if not self._file.closed:
                self._put(b"\n]\n")
                self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, data: bytes) -> None:
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            self._file.close()
            warnings.warn(f"the trace {self.path} ends early: {error.strerror}", stacklevel=3)
