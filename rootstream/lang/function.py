"""`@rs.function`: a function of a state, and the ways to run it as a program."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import uvloop

from rootstream.lang.bodies import running
from rootstream.lang.branch import Manner
from rootstream.lang.calls import Backend
from rootstream.lang.deadlines import Deadline
from rootstream.lang.default import default_backend
from rootstream.lang.driven import Driven
from rootstream.lang.program import Program
from rootstream.lang.says import DEFAULTS, checked
from rootstream.lang.state import Running, State
from rootstream.lang.tracing.observing import observed, trace
from rootstream.lang.waiting import may_wait, wait


class Options(NamedTuple):
    """How a program is run: keywords of run, arun and start."""

    backend: Backend | None = None
    """Who answers; the default one otherwise."""
    timeout: float | None = None
    """Seconds for all of it."""
    stream: bool = False
    """Texts come in pieces; else only those that somebody reads with stream or text_iter."""
    seed: int | None = None
    """From which each generation that has none gets its own, by its place: the program can be repeated."""
    template_kwargs: Mapping[str, Any] | None = None
    """For the model's chat template."""
    trace: str | None = None
    """The file of a timeline."""


class Bound(NamedTuple):
    """What was given, sorted by whom it is for."""

    args: tuple[Any, ...]
    keywords: dict[str, Any]
    defaults: dict[str, Any]
    options: Options


class Function:
    """A program: its body takes a state and whatever else. Calling it runs the body inline, on another program's state.

    ``run``, ``arun`` and ``start`` take the body's arguments, and as keywords those of Options. Keywords that gen has
    and the body has not, such as temperature or max_tokens, are for those of its generations that do not say.
    """

    def __init__(self, body: Callable[..., Any]) -> None:
        functools.update_wrapper(self, body)
        self.body = body
        self.name: str = getattr(body, "__name__", type(body).__name__)
        if inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body):
            raise TypeError(f"{self.name} yields: a program says things with `s += …` and returns")
        parameters = list(inspect.signature(body).parameters)
        if not parameters:
            raise TypeError(f"{self.name} takes no state: define it as `def {self.name}(s, …)`")
        self._parameters = frozenset(parameters[1:])
        taken = self._parameters.intersection(Options._fields)
        if taken:
            raise TypeError(f"{self.name}: {', '.join(sorted(taken))} means something to run(): choose another name")

    def __call__(self, s: State, /, *args: Any, **keywords: Any) -> Any:
        """Run the body inline, on ``s``; what it returns. To be awaited in an async body."""
        if not isinstance(s, State):  # pyright: ignore[reportUnnecessaryIsInstance] - users may not check types
            raise TypeError(f"{self.name}(s, …) goes on with a program's state: {self.name}.run(…) starts one")
        if not may_wait():
            return running(self.body, s, *args, **keywords)
        returned = self.body(s, *args, **keywords)
        return wait(returned) if inspect.isawaitable(returned) and not isinstance(returned, State) else returned

    def run(self, *args: Any, **keywords: Any) -> State:
        """Run to the end, in a loop of its own. Ctrl-C ends it at the server too.

        With ``stream=True`` it returns at once, and the program runs while one reads from its state, as with text_iter.
        Raises what the body raises, CallError, DeadlineExceeded when the time is over.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError(f"a loop runs already: `await {self.name}.arun(…)`, or {self.name}(s, …) in a program")
        bound = self._bound(args, keywords)
        program = _program(bound.options, bound.defaults)
        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        if bound.options.stream:
            return Driven(program, runner, self._alone(program, bound))
        with runner:
            runner.run(self._alone(program, bound))
        return State(program, program.root)

    async def arun(self, *args: Any, **keywords: Any) -> State:
        """Run to the end. Raises as run() does; cancelling it cancels its calls at the server."""
        bound = self._bound(args, keywords)
        program = _program(bound.options, bound.defaults)
        await self._whole(program, bound)
        return State(program, program.root)

    def start(self, *args: Any, **keywords: Any) -> Running:
        """Run beside what else the loop does: `await state` for its end, `state.stream(…)` for its text as it comes."""
        bound = self._bound(args, keywords)
        program = _program(bound.options, bound.defaults)
        program.task = asyncio.get_running_loop().create_task(self._whole(program, bound), name=self.name)
        return Running(program, program.root)

    async def _alone(self, program: Program, bound: Bound) -> None:
        backend = program.backend
        try:
            await self._whole(program, bound)
        finally:
            await backend.close()  # its connections belong to this loop

    async def _whole(self, program: Program, bound: Bound) -> None:
        timeout = bound.options.timeout
        try:
            with trace(bound.options.trace), observed(program.backend, self.name) as program.backend:
                try:
                    with nullcontext() if timeout is None else Deadline(timeout):
                        state = State(program, program.root)
                        program.returned = await running(self.body, state, *bound.args, **bound.keywords)
                        await program.finish()
                finally:
                    await program.close()
        except BaseException as error:
            program.error = error
            raise

    def _bound(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> Bound:
        """Raises TypeError and ValueError for wrong options and defaults."""
        own: dict[str, Any] = {}
        options: dict[str, Any] = {}
        defaults: dict[str, Any] = {}
        for name, value in keywords.items():
            if name in Options._fields:
                options[name] = value
            elif name in DEFAULTS and name not in self._parameters:
                defaults[name] = value
            else:
                own[name] = value
        return Bound(args, own, checked(defaults, f"{self.name}.run") if defaults else defaults, Options(**options))


def _program(options: Options, defaults: dict[str, Any]) -> Program:
    manner = Manner(defaults, options.seed, dict(options.template_kwargs or {}), options.stream)
    return Program(options.backend or default_backend(), manner)


def function(body: Callable[..., Any]) -> Function:
    """Make a program of `def f(s, …)` or `async def f(s, …)`."""
    return Function(body)
