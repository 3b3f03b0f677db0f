"""The timeline of programs: which rows there are, and what stands in them.

A program is a process of the trace: its first row has the program and the calls of its main line, each branch of a
fork has a row of its own, with an arrow from where it began. Lanes and rows are used again when what was in them has
ended, so that a map of ten thousand items has as many as ran at once. Knows calls and outcomes, but no backends.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import Any

from rootstream.lang.calls import Call, OnPiece, Outcome
from rootstream.lang.parts import Gen, Message, Part, Select, Text
from rootstream.lang.tracing.events import Event, EventFile

_COUNTERS = 0  # the process of what is counted over all programs
_PREVIEW = 160  # characters of a call's text that are shown


class Timeline:
    """All programs of one trace."""

    def __init__(self, file: EventFile) -> None:
        self.file = file
        self._free: dict[str, list[int]] = {}  # lanes by the program's name, a heap each
        self._pids = itertools.count(1)
        self._arrows = itertools.count(1)
        self._under_way = 0
        self._cached = 0
        self._computed = 0
        self._generated = 0
        file.write(_named("process_name", _COUNTERS, 0, "all programs"))

    def program(self, name: str, details: dict[str, Any]) -> ProgramRows:
        """A program begins."""
        free = self._free.setdefault(name, [])
        if free:
            pid = heapq.heappop(free)
        else:
            pid = next(self._pids)
            self.file.write(_named("process_name", pid, 0, name), _named("thread_name", pid, 0, "main line"))
        return ProgramRows(self, pid, name, details)

    def ended(self, program: ProgramRows) -> None:
        heapq.heappush(self._free[program.name], program.pid)

    def arrow(self) -> int:
        return next(self._arrows)

    def began(self) -> Event:
        """One more call is under way, as the viewer draws it."""
        self._under_way += 1
        return self._calls()

    def answered(self, outcome: Outcome | None) -> tuple[Event, ...]:
        self._under_way -= 1
        if outcome is None:
            return (self._calls(),)
        usage = outcome.usage
        self._cached += usage.cached_tokens
        self._computed += usage.prompt_tokens - usage.cached_tokens
        self._generated += usage.completion_tokens
        totals = {"cached": self._cached, "computed": self._computed, "generated": self._generated}
        return self._calls(), self._counter("tokens so far", totals)

    def _calls(self) -> Event:
        return self._counter("calls under way", {"calls": self._under_way})

    def _counter(self, name: str, values: dict[str, Any]) -> Event:
        return Event(name=name, ph="C", pid=_COUNTERS, tid=0, ts=self.file.now(), args=values)


class ProgramRows:
    """The rows of one program, from its beginning to its end."""

    def __init__(self, timeline: Timeline, pid: int, name: str, details: dict[str, Any]) -> None:
        self.timeline = timeline
        self.pid = pid
        self.name = name
        self.file = timeline.file
        self._contexts: dict[str, CallSlice] = {}  # those that others may go on from
        self._open: dict[int, CallSlice] = {}  # by row
        self._main = 0
        self._taken = {0}
        self._known = {0}
        self.file.write(Event(name=name, ph="B", pid=pid, tid=0, ts=self.file.now(), cat="program", args=details))

    def call(self, call: Call) -> CallSlice:
        """A call begins, in the row of what it goes on from or, where a branch begins, in a new one."""
        parent = self._contexts.get(call.parent or "")
        row = self._row(call, parent)
        made = CallSlice(self, row, call)
        self._open[row] = made
        if call.keep:
            self._contexts[call.id] = made
        events: list[Event] = []
        if row not in self._known:
            self._known.add(row)
            events.append(_named("thread_name", self.pid, row, f"branch {row}"))
            events.append(Event(name="thread_sort_index", ph="M", pid=self.pid, tid=row, args={"sort_index": row}))
        events.append(made.begin())
        if parent is not None and parent.row != row:
            events += self._arrow(parent, made)
        self.file.write(*events, self.timeline.began())
        return made

    def closed(self, slice_: CallSlice, *, is_last: bool) -> None:
        """A call ended; ``is_last``: nobody goes on from it."""
        self._open.pop(slice_.row, None)
        if is_last:
            self._free(slice_.row)

    def forget(self, ids: tuple[str, ...]) -> None:
        """Nobody goes on from these: a branch whose last one is among them has ended."""
        for context in ids:
            ended = self._contexts.pop(context, None)
            if ended is not None and not any(other.row == ended.row for other in self._contexts.values()):
                self._free(ended.row)

    def end(self, error: BaseException | None) -> None:
        """The program is over, and what still runs of it is given up."""
        for slice_ in list(self._open.values()):
            slice_.end("the program ended")
        details = {} if error is None else {"error": described(error)}
        self.file.write(
            Event(name=self.name, ph="E", pid=self.pid, tid=0, ts=self.file.now(), cat="program", args=details)
        )
        self.timeline.ended(self)

    def _row(self, call: Call, parent: CallSlice | None) -> int:
        if parent is None:
            own = self._main if call.group is None or not self._contexts else None
        else:
            own = parent.row if call.group == parent.call.group else None
        if own is not None and own not in self._open:
            self._taken.add(own)
            return own
        row = next(row for row in itertools.count(1) if row not in self._taken and row not in self._open)
        self._taken.add(row)
        return row

    def _free(self, row: int) -> None:
        if row != self._main and row not in self._open:
            self._taken.discard(row)

    def _arrow(self, parent: CallSlice, child: CallSlice) -> tuple[Event, Event]:
        number = self.timeline.arrow()
        start = Event(name="fork", ph="s", pid=self.pid, tid=parent.row, ts=parent.inside(), cat="fork", id=number)
        end = Event(name="fork", ph="f", pid=self.pid, tid=child.row, ts=child.began, cat="fork", id=number, bp="e")
        return start, end


class CallSlice:
    """One call in its row."""

    def __init__(self, program: ProgramRows, row: int, call: Call) -> None:
        self.row = row
        self.call = call
        self.began = program.file.now()
        self._program = program
        self._ended: float | None = None
        self._waits: tuple[float, float, dict[str, Any]] | None = None  # since when, for how long at most, why
        self._seen: set[int] = set()

    @property
    def name(self) -> str:
        names = [part.name for part in self.call.parts if isinstance(part, Gen | Select)]
        return ", ".join(names) or ("prefill" if self.call.prefill else "text")

    def inside(self) -> float:
        """A time that lies within the slice, as late as there is."""
        return self._program.file.now() if self._ended is None else max(self.began, self._ended - 0.5)

    def begin(self) -> Event:
        call = self.call
        details: dict[str, Any] = {"id": call.id, "parts": len(call.parts), "says": preview(call.parts)}
        details |= {"parent": call.parent} if call.parent else {}
        details |= {"group": call.group} if call.group else {}
        return self._event("B", self.name, self.began, details)

    def note(self, what: str, details: dict[str, Any]) -> None:
        """What the backend has to say meanwhile."""
        now = self._program.file.now()
        events = self._waited(now)
        events.append(self._event("i", what, now, details))
        self._program.file.write(*events)
        if wait_s := details.get("wait_s"):
            self._waits = now, wait_s * 1e6, details

    def pieces(self, on_piece: OnPiece) -> OnPiece:
        """The same, and the first text of each part is marked."""

        def told(part: int, text: str) -> None:
            if part not in self._seen:
                self._seen.add(part)
                said = self.call.parts[part]
                name = said.name if isinstance(said, Gen | Select) else str(part)
                self._program.file.write(self._event("i", f"first text of {name}", self._program.file.now(), {}))
            on_piece(part, text)

        return told

    def answered(self, outcome: Outcome) -> None:
        usage = outcome.usage
        details: dict[str, Any] = {
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "completion_tokens": usage.completion_tokens,
        }
        for result in outcome.results:
            told = {"finish_reason": result.finish_reason, "completion_tokens": result.completion_tokens}
            details[result.name] = {**told, "text": _short(result.text)}
        self._end(details, outcome)

    def failed(self, error: BaseException) -> None:
        self.end("cancelled" if isinstance(error, asyncio.CancelledError) else described(error))

    def end(self, why: str) -> None:
        """It came to nothing."""
        self._end({"error": why}, None)

    def _end(self, details: dict[str, Any], outcome: Outcome | None) -> None:
        if self._ended is not None:  # the program ended before it
            return
        self._ended = now = self._program.file.now()
        events = self._waited(now)
        events.append(self._event("E", self.name, now, details))
        self._program.file.write(*events, *self._program.timeline.answered(outcome))
        self._program.closed(self, is_last=not self.call.keep)
        self._program.forget(self.call.release)

    def _waited(self, now: float) -> list[Event]:
        if self._waits is None:
            return []
        since, longest, details = self._waits
        self._waits = None
        took, pid = min(longest, now - since), self._program.pid
        return [Event(name="wait", ph="X", pid=pid, tid=self.row, ts=since, dur=took, cat="wait", args=details)]

    def _event(self, ph: Any, name: str, ts: float, details: dict[str, Any]) -> Event:
        reach = "t" if ph == "i" else None
        return Event(name=name, ph=ph, pid=self._program.pid, tid=self.row, ts=ts, cat="call", s=reach, args=details)


def preview(parts: tuple[Part, ...]) -> str:
    """The beginning of what a call says, gens as {names}."""
    said = ""
    for part in parts:
        match part:
            case Text(text):
                said += text
            case Gen(name=name) | Select(name=name):
                said += "{" + name + "}"
            case Message(message):
                said += f"[{message.get('role', 'message')}]"
            case _:
                pass
        if len(said) > _PREVIEW:
            break
    return _short(said)


def described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _short(text: str) -> str:
    return text if len(text) <= _PREVIEW else text[:_PREVIEW] + "…"


def _named(what: str, pid: int, tid: int, name: str) -> Event:
    return Event(name=what, ph="M", pid=pid, tid=tid, args={"name": name})
