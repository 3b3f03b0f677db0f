"""Ends a process that hangs, and leaves on stderr what every thread was doing: whoever started it starts it again."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import sys

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
    with contextlib.suppress(Exception):
        for task in asyncio.all_tasks():
            task.print_stack(limit=8, file=sys.stderr)
    sys.stderr.flush()
    os._exit(EXIT_HUNG)
