"""A program that runs only while somebody reads from it: `run(stream=True)`, where no loop runs beside."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from rootstream.lang.branch import Gathered
from rootstream.lang.node import Slot
from rootstream.lang.program import Program
from rootstream.lang.state import Running

T = TypeVar("T")


class Driven(Running):
    """Reading drives the program's loop: text_iter as far as the next piece, everything else to the program's end.

    Leaving its `with`, or dropping it, ends the program; so does Ctrl-C while reading.
    """

    def __init__(self, program: Program, runner: asyncio.Runner, whole: Coroutine[Any, Any, None]) -> None:
        super().__init__(program, program.root)
        self._runner: asyncio.Runner | None = runner
        self._readers = 0  # of pieces: they need the loop to the end
        program.task = runner.get_loop().create_task(whole)

    def finish(self) -> Self:
        """Run to the end. Raises what the program raises."""
        if self._runner is not None:
            self._drive(self._ran())
        if self._program.error is not None:
            raise self._program.error
        return self

    def cancel(self) -> None:
        """End the program, its calls at the server, and its loop."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        task = self._program.task
        assert task is not None
        with runner:
            task.cancel()
            runner.run(_ended(task))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # nobody is there to be told
            self.cancel()

    @property
    def returned(self) -> Any:
        self.finish()
        return self._program.returned

    def text_iter(self, name: str | None = None) -> Iterator[str]:
        self._readers += 1
        try:
            yield from super().text_iter(name)
        finally:
            self._readers -= 1
            self._close_if_over()

    def _run_to_end(self) -> None:
        self.finish()

    def _demanded(self, name: str) -> Slot | Gathered:
        if self._runner is not None:
            self.finish()
        return super()._demanded(name)

    def _wait_for(self, awaitable: Any) -> Any:
        return None if self._runner is None else self._drive(_awaited(awaitable))

    def _drive(self, reading: Coroutine[Any, Any, T]) -> T:
        assert self._runner is not None
        try:
            return self._runner.run(reading)
        except BaseException:
            self.cancel()
            raise
        finally:
            self._close_if_over()

    def _close_if_over(self) -> None:
        task = self._program.task
        if task is not None and task.done() and not self._readers:
            self.cancel()


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


async def _ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # finish() raises it, if anybody asks
