"""The resume file of a map: a line for each item that is done, from which a later run goes on.

Several maps may share a file: lines are found by their keys. Those of failed items stand there to be read by people; a
later run asks them again.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Self

import msgspec

from rootstream.lang.calls import CallError
from rootstream.lang.mapping.items import Finished, Item, Saved
from rootstream.lang.mapping.keys import as_json
from rootstream.line_file import LineFile, Place
from shared.errors import UserError


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One item as the file has it."""

    key: str
    index: int
    seconds: float
    state: Saved | None = None
    error: str | None = None


class _Known(msgspec.Struct, frozen=True):
    """As much of a line as finding it takes."""

    key: str
    error: str | None = None


_known = msgspec.json.Decoder(_Known)
_line = msgspec.json.Decoder(Line)


class Journal:
    """A resume file under way. Only places of lines are kept in memory."""

    def __init__(self, path: Path) -> None:
        """Raises UserError where it cannot be written, another run writes it, or it is no resume file."""
        self._file = LineFile(path)
        self._places: dict[str, Place] = {}
        try:
            self._learn()
        except UserError:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        """Items that are done."""
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def item(self, key: str, index: int, args: Any) -> Item | None:
        """The item as it ended in an earlier run."""
        place = self._places.get(key)
        if place is None:
            return None
        line = _line.decode(self._file.read(place))
        state = line.state or Saved()
        return Item(index=index, args=args, state=state, seconds=line.seconds, usage=state.usage, is_restored=True)

    def add(self, key: str, item: Item) -> None:
        """Raises UserError where the disk is full, TypeError for a returned value that cannot be written."""
        error = None if item.error is None else f"{type(item.error).__name__}: {item.error}"
        state = None if item.state is None else saved(item.state)
        line = Line(key=key, index=item.index, seconds=round(item.seconds, 3), state=state, error=error)
        try:
            written = msgspec.json.encode(line, enc_hook=as_json)
        except TypeError as unwritable:
            raise TypeError(
                f"what item {item.index} came to cannot be written into {self._file.path} ({unwritable}): "
                "return JSON, a model or a dataclass from the program"
            ) from unwritable
        place = self._file.append(written + b"\n")
        if error is None:
            self._places[key] = place

    def _learn(self) -> None:
        end = 0
        for number, (place, line) in enumerate(self._file.lines(), start=1):
            try:
                known = _known.decode(line)
            except msgspec.MsgspecError as error:
                raise UserError(
                    f"{self._file.path} line {number} is no item of a map ({error}): name another resume file"
                ) from error
            if known.error is None:
                self._places[known.key] = place
            end = place.start + place.length
        self._file.cut_at(end)


def saved(state: Finished) -> Saved:
    """What is kept of a state that ran."""
    values: dict[str, Any] = {}
    results: dict[str, Any] = {}
    for name in state.names():
        with contextlib.suppress(ValueError, CallError):  # never ran, or is no value: the body did without
            values[name] = state[name]
        with contextlib.suppress(TypeError, CallError):  # gathered from forks: it has no one way of coming about
            results[name] = state.meta(name)
    try:
        conversation = [dict(message) for message in state.messages()]
    except ValueError:  # plain text
        conversation = None
    return Saved(
        values=values,
        results=results,
        said=state.text(),
        conversation=conversation,
        returned=state.returned,
        usage=state.usage,
    )
