"""Ends a process that hangs, and leaves on stderr what every thread was doing: whoever started it starts it again."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from shared.registry import State

EXIT_HUNG = 70
_BLOCKED_S = 30.0
_BLOCKED_LOADING_S = 300.0  # imports and compilers hold everything up


def guard_loop(state: State) -> None:
    """Called again and again by an event loop: if it is not called for too long, the process ends with exit code 1.

    A thread in C keeps the time, so that not even code that never lets go of the interpreter escapes it.
    """
    patience = _BLOCKED_LOADING_S if state is State.LOADING else _BLOCKED_S
    faulthandler.dump_traceback_later(patience, exit=True)


def end_hung(reason: str) -> None:
    """End this process at once: an orderly end would wait for what hangs."""
    sys.stderr.write(f"{reason}; what every thread and task is at:\n")
    sys.stderr.flush()
    faulthandler.dump_traceback(sys.stderr, all_threads=True)
    for task in asyncio.all_tasks():
        sys.stderr.write(f"Task {task.get_name()} (outermost call first):\n")
        for frame in _frames(task.get_coro()):
            sys.stderr.write(f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}\n')
    sys.stderr.flush()
    os._exit(EXIT_HUNG)


def _frames(work: Any) -> Iterator[FrameType]:
    """Where a task waits: asyncio itself shows the outermost of its coroutines only."""
    while (frame := getattr(work, "cr_frame", None)) is not None:
        yield frame
        work = work.cr_await
