"""How far a map has come, for people: a bar on a terminal or in a notebook, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rootstream.lang.calls import Usage
from rootstream.lang.mapping.items import Item
from rootstream.recent import Recent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_PLAIN_EVERY_S = 10.0


class Tally:
    """What has become of the items so far; rates are those of the last seconds. Pure: times are arguments."""

    def __init__(self) -> None:
        self.done = 0
        self.failed = 0
        self.restored = 0
        self.usage = Usage()
        self._recent = Recent()

    def add(self, item: Item, now: float) -> None:
        self.done += 1
        self.failed += not item.is_good
        self.restored += item.is_restored
        if not item.is_restored:
            self.usage += item.usage
            self._recent.add(1, now)

    def rate(self, now: float) -> float:
        """Items a second, lately."""
        return self._recent.rate(now)

    def line(self, now: float) -> str:
        words = [f"{self.rate(now):.1f} items/s"]
        if self.usage.prompt_tokens:
            words.append(f"{self.usage.cached_tokens / self.usage.prompt_tokens:.0%} cached")
        words += [f"{self.restored} from before"] if self.restored else []
        words += [f"{self.failed} failed"] if self.failed else []
        return ", ".join(words)


class Progressing:
    """The progress of one map, as a context; ``console`` is None where nobody wants to see it."""

    def __init__(self, name: str, total: int | None, console: Console | None) -> None:
        self.tally = Tally()
        self._name = name
        self._total = total
        self._console = console
        self._said_at = time.monotonic()
        self._bar: Progress | None = None
        if console is not None and (console.is_terminal or console.is_jupyter):
            self._bar = _bar(name, console)
            self._task = self._bar.add_task("", total=total, text="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        else:
            self._say()

    def add(self, item: Item) -> None:
        now = time.monotonic()
        self.tally.add(item, now)
        if self._bar is not None:
            self._bar.update(self._task, completed=self.tally.done, text=self.tally.line(now))
        elif now - self._said_at >= _PLAIN_EVERY_S:
            self._said_at = now
            self._say()

    def _say(self) -> None:
        if self._console is None:
            return
        of = "" if self._total is None else f" of {self._total}"
        line = f"{self._name}: {self.tally.done}{of}, {self.tally.line(time.monotonic())}"
        self._console.print(line, markup=False, soft_wrap=True)


def on_stderr() -> Console:
    from rich.console import Console  # a fifth of a second, which programs without progress do not spend

    return Console(stderr=True, highlight=False)


def _bar(name: str, console: Console) -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn(name, markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
