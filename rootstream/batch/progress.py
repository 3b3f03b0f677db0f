"""How far a batch has come, for people: a bar on a terminal, plain lines elsewhere. All of it goes to stderr."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rootstream.batch.lines import Tokens
from rootstream.recent import Recent

_PLAIN_EVERY_S = 10.0


class Counts:
    """What has become of the requests so far; rates are those of the last seconds. Pure: times are arguments."""

    def __init__(self, total: int, done: int = 0, failed: int = 0) -> None:
        self.total = total
        self.before = done + failed
        self.done = done
        self.failed = failed
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self._recent = Recent()

    @property
    def left(self) -> int:
        return self.total - self.done - self.failed

    def add(self, tokens: Tokens, now: float, *, is_good: bool) -> None:
        self.done += is_good
        self.failed += not is_good
        self.prompt_tokens += tokens.prompt
        self.completion_tokens += tokens.completion
        self._recent.add(tokens.completion, now)

    def tokens_per_s(self, now: float) -> float:
        """Generated tokens a second, lately."""
        return self._recent.rate(now)

    def line(self, now: float) -> str:
        words = [f"{self.done} done", f"{self.failed} failed", f"{self.left} left"]
        return f"{', '.join(words)}; {self.tokens_per_s(now):,.0f} tokens/s"


class Shown:
    """The progress of one run on stderr, as a context."""

    def __init__(self, counts: Counts, *, quiet: bool = False) -> None:
        self._counts = counts
        self._console = Console(stderr=True, highlight=False, quiet=quiet)
        self._bar: Progress | None = None
        self._said_at = time.monotonic()
        if self._console.is_terminal:
            self._bar = Progress(
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[text]}"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task("", total=counts.total, completed=counts.before, text="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self.update()
            self._bar.stop()

    def update(self) -> None:
        """Show how far it is, as often as one likes."""
        now = time.monotonic()
        if self._bar is not None:
            counts = self._counts
            self._bar.update(self._task, completed=counts.done + counts.failed, text=counts.line(now))
        elif now - self._said_at >= _PLAIN_EVERY_S:
            self._said_at = now
            self.say(self._counts.line(now))

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)
