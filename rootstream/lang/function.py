"""`@rs.function`: a function of a state, and the ways to run it as a program."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rootstream.lang.bodies import running
from rootstream.lang.branch import Manner
from rootstream.lang.calls import Backend
from rootstream.lang.deadlines import Deadline
from rootstream.lang.default import default_backend
from rootstream.lang.program import Program
from rootstream.lang.says import DEFAULTS, checked
from rootstream.lang.state import Running, State
from rootstream.lang.waiting import may_wait, wait

_OWN = ("backend", "timeout", "stream", "seed", "template_kwargs")


class Bound(NamedTuple):
    """A body's arguments, and the defaults of its generations."""

    args: tuple[Any, ...]
    keywords: dict[str, Any]
    defaults: dict[str, Any]


class Function:
    """A program: its body takes a state, and whatever else. Calling it runs the body inline, on the state of another."""

    def __init__(self, body: Callable[..., Any]) -> None:
        functools.update_wrapper(self, body)
        if inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body):
            raise TypeError(f"{body.__name__} yields: a program says things with `s += …` and returns")
        self.body = body
        self.name: str = getattr(body, "__name__", type(body).__name__)
        parameters = list(inspect.signature(body).parameters.values())
        if not parameters:
            raise TypeError(f"{self.name} takes no state: define it as `def {self.name}(s, …)`")
        self._parameters = {parameter.name for parameter in parameters[1:]}
        taken = self._parameters.intersection(_OWN)
        if taken:
            raise TypeError(
                f"{self.name}: run() has its own meaning for {', '.join(sorted(taken))}: choose other names"
            )

    def __call__(self, s: State, /, *args: Any, **keywords: Any) -> Any:
        """Run the body inline, on ``s``; what it returns. To be awaited in an async body."""
        if not isinstance(s, State):
            raise TypeError(
                f"{self.name}(s, …) goes on with the state of a program: use {self.name}.run(…) to start one"
            )
        body = running(self.body, s, *args, **keywords)
        if not may_wait():
            return body
        if inspect.iscoroutinefunction(self.body):
            return wait(body)
        body.close()
        return self.body(s, *args, **keywords)

    def run(
        self,
        *args: Any,
        backend: Backend | None = None,
        timeout: float | None = None,
        stream: bool = False,
        seed: int | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        **keywords: Any,
    ) -> State:
        """Run to the end, in a loop of its own. What the body does not take is for its generations: temperature=0, say.

        Raises what the body raises, CallError, DeadlineExceeded after ``timeout`` seconds. Ctrl-C ends it at the server too.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError(
                f"a loop is running already: `await {self.name}.arun(…)`, or {self.name}(s, …) in a program"
            )
        chosen = backend or default_backend()

        async def whole() -> State:
            try:
                return await self.arun(
                    *args,
                    backend=chosen,
                    timeout=timeout,
                    stream=stream,
                    seed=seed,
                    template_kwargs=template_kwargs,
                    **keywords,
                )
            finally:
                await chosen.close()  # its connections belong to this loop

        with asyncio.Runner() as runner:
            return runner.run(whole())

    async def arun(
        self,
        *args: Any,
        backend: Backend | None = None,
        timeout: float | None = None,
        stream: bool = False,
        seed: int | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        **keywords: Any,
    ) -> State:
        """Run to the end. Raises as run() does; cancelling it cancels its calls at the server."""
        bound = self._bound(args, keywords)
        manner = Manner(bound.defaults, seed, dict(template_kwargs or {}), stream)
        program = Program(backend or default_backend(), manner)
        await self._whole(program, bound, timeout)
        return State(program, program.root)

    def start(
        self,
        *args: Any,
        backend: Backend | None = None,
        timeout: float | None = None,
        stream: bool = False,
        seed: int | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        **keywords: Any,
    ) -> Running:
        """Run beside what else the loop does: `await state` for its end, `state.stream(…)` for its text as it comes."""
        bound = self._bound(args, keywords)
        manner = Manner(bound.defaults, seed, dict(template_kwargs or {}), stream)
        program = Program(backend or default_backend(), manner)
        program.task = asyncio.get_running_loop().create_task(self._whole(program, bound, timeout), name=self.name)
        return Running(program, program.root)

    async def _whole(self, program: Program, bound: Bound, timeout: float | None) -> None:
        try:
            with contextlib.nullcontext() if timeout is None else Deadline(timeout):
                program.returned = await running(self.body, State(program, program.root), *bound.args, **bound.keywords)
                await program.finish()
        except BaseException as error:
            program.error = error
            raise
        finally:
            await program.close()

    def _bound(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> Bound:
        """Keywords that the body does not take are for its generations. Raises TypeError for those that nobody takes."""
        rest = {name: value for name, value in keywords.items() if name not in self._parameters}
        defaults = {name: value for name, value in rest.items() if name in DEFAULTS and value is not None}
        own = {name: value for name, value in keywords.items() if name in self._parameters or name not in DEFAULTS}
        return Bound(args, own, checked(defaults, f"{self.name}.run"))


def function(body: Callable[..., Any]) -> Function:
    """Make a program of `def f(s, …)` or `async def f(s, …)`."""
    return Function(body)
