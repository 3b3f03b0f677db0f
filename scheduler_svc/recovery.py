"""Reading the step log: which Steps count, and who the worker is. The same before and after a restart.

The fence: a Step counts if its epoch is that of the last Opened before it. At the head of a trimmed log
no Opened precedes the first Steps; there the largest epoch among them is taken, since Steps of an older
epoch may linger but none of a newer one can come before its Opened.
"""

from __future__ import annotations

from collections.abc import Iterable

from shared.protocol import Hello, Message, Opened, Step


class StepLog:
    """A fold over the messages of `steps:{w}`."""

    def __init__(self) -> None:
        self.hello: Hello | None = None
        self.fence: int | None = None

    def start(self, messages: Iterable[Message]) -> None:
        """Look ahead over what the log holds at the start, before any of it is folded."""
        head: list[int] = []
        for message in messages:
            match message:
                case Opened():
                    break
                case Step(epoch=epoch):
                    head.append(epoch)
                case _:
                    pass
        self.fence = max(head, default=None)

    def counts(self, step: Step) -> bool:
        """Does this Step say what really happened?"""
        if self.fence is None:
            self.fence = step.epoch
        return step.epoch == self.fence

    def on_hello(self, hello: Hello) -> bool:
        """Note a worker that has started. False if it is the one already known."""
        known = self.hello is not None and self.hello.incarnation == hello.incarnation
        self.hello = hello
        return not known

    def on_opened(self, opened: Opened) -> None:
        self.fence = opened.epoch
