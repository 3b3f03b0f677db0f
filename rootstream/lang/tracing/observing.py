"""Watches programs while a trace is open: one wrapping of their backend, whichever it is.

``with trace("run.json"):`` around whatever runs programs; the file opens in chrome://tracing and ui.perfetto.dev. It
holds the beginnings of prompts and answers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from pathlib import Path
from typing import Any

from rootstream.lang.calls import Backend, Call, OnPiece, Outcome
from rootstream.lang.tracing.events import EventFile
from rootstream.lang.tracing.notes import listening
from rootstream.lang.tracing.timeline import ProgramRows, Timeline

_timeline: ContextVar[Timeline | None] = ContextVar("timeline", default=None)


@contextmanager
def trace(path: str | Path | None) -> Generator[None]:
    """Write a timeline of all programs that start within; None: of none."""
    if path is None:
        yield
        return
    with EventFile(Path(path)) as file:
        token = _timeline.set(Timeline(file))
        try:
            yield
        finally:
            _timeline.reset(token)


@contextmanager
def observed(backend: Backend, name: str, details: Callable[[], dict[str, Any]] = dict) -> Generator[Backend]:
    """The backend for one run of a program, which an open trace watches. ``details`` are shown with the program."""
    timeline = _timeline.get()
    if timeline is None:
        yield backend
        return
    rows = timeline.program(name, details())
    try:
        yield _Observed(backend, rows)
    except BaseException as error:
        rows.end(error)
        raise
    rows.end(None)


@contextmanager
def traced_context(path: str | Path | None) -> Generator[Context]:
    """The same for a generator, whose own context is that of whoever asks it: for the tasks that it starts."""
    context = copy_context()
    if path is None:
        yield context
        return
    with EventFile(Path(path)) as file:
        context.run(_timeline.set, Timeline(file))
        yield context


@contextmanager
def unobserved() -> Generator[None]:
    """What starts within is in no trace: it is a rehearsal."""
    token = _timeline.set(None)
    try:
        yield
    finally:
        _timeline.reset(token)


class _Observed:
    """A backend whose calls are written down."""

    def __init__(self, backend: Backend, rows: ProgramRows) -> None:
        self._backend = backend
        self._rows = rows

    async def run(self, call: Call, on_piece: OnPiece | None = None) -> Outcome:
        shown = self._rows.call(call)
        with listening(shown.note):
            try:
                outcome = await self._backend.run(call, on_piece and shown.pieces(on_piece))
            except BaseException as error:
                shown.failed(error)
                raise
        shown.answered(outcome)
        return outcome

    async def release(self, ids: Sequence[str]) -> None:
        self._rows.forget(tuple(ids))
        await self._backend.release(ids)

    async def close(self) -> None:
        await self._backend.close()
