"""`@rs.function`: a function of a state, and the ways to run it as a program."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import reprlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from rootstream.lang.bodies import running
from rootstream.lang.branch import Manner
from rootstream.lang.calls import Backend
from rootstream.lang.deadlines import Deadline
from rootstream.lang.default import default_backend
from rootstream.lang.mapping.items import Item, Items, in_order
from rootstream.lang.mapping.run import CONCURRENCY, Given, Mapped, Wish, amap_iter
from rootstream.lang.program import Program
from rootstream.lang.says import DEFAULTS, checked
from rootstream.lang.seeds import derived_seed
from rootstream.lang.state import Running, State
from rootstream.lang.tracing.dry import dry_run
from rootstream.lang.tracing.graph import Graph
from rootstream.lang.tracing.observing import observed
from rootstream.lang.tracing.observing import trace as traced
from rootstream.lang.tracing.placeholders import Answers, Placeholders
from rootstream.lang.waiting import may_wait, wait

T = TypeVar("T")

_OWN = ("backend", "timeout", "stream", "seed", "template_kwargs", "trace")


class Bound(NamedTuple):
    """A body's arguments, and the defaults of its generations."""

    args: tuple[Any, ...]
    keywords: dict[str, Any]
    defaults: dict[str, Any]

    def told(self) -> dict[str, Any]:
        """For whoever reads a timeline."""
        named = {str(place): argument for place, argument in enumerate(self.args)} | self.keywords
        return {name: reprlib.repr(argument) for name, argument in named.items()}


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
        trace: str | Path | None = None,
        **keywords: Any,
    ) -> State:
        """Run to the end, in a loop of its own. What the body does not take is for its generations: temperature=0, say.

        Raises what the body raises, CallError, DeadlineExceeded after ``timeout`` seconds. Ctrl-C ends it at the server too.
        """
        return self._alone(
            "arun",
            backend,
            lambda chosen: self.arun(
                *args,
                backend=chosen,
                timeout=timeout,
                stream=stream,
                seed=seed,
                template_kwargs=template_kwargs,
                trace=trace,
                **keywords,
            ),
        )

    async def arun(
        self,
        *args: Any,
        backend: Backend | None = None,
        timeout: float | None = None,
        stream: bool = False,
        seed: int | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        trace: str | Path | None = None,
        **keywords: Any,
    ) -> State:
        """Run to the end. Raises as run() does; cancelling it cancels its calls at the server."""
        bound = self._bound(args, keywords)
        manner = Manner(bound.defaults, seed, dict(template_kwargs or {}), stream)
        program = Program(backend or default_backend(), manner)
        await self._whole(program, bound, timeout, trace)
        return State(program, program.root)

    def start(
        self,
        *args: Any,
        backend: Backend | None = None,
        timeout: float | None = None,
        stream: bool = False,
        seed: int | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        trace: str | Path | None = None,
        **keywords: Any,
    ) -> Running:
        """Run beside what else the loop does: `await state` for its end, `state.stream(…)` for its text as it comes."""
        bound = self._bound(args, keywords)
        manner = Manner(bound.defaults, seed, dict(template_kwargs or {}), stream)
        program = Program(backend or default_backend(), manner)
        program.task = asyncio.get_running_loop().create_task(
            self._whole(program, bound, timeout, trace), name=self.name
        )
        return Running(program, program.root)

    def map(self, items: Iterable[Any], *, backend: Backend | None = None, **how: Any) -> Items:
        """Run for every item, many at once, in a loop of its own; all Items in the order of ``items``.

        ``how`` is as in :meth:`amap_iter`. Ctrl-C ends it; with a resume file, the same again goes on from there.
        """
        return self._alone("amap", backend, lambda chosen: self.amap(items, backend=chosen, **how))

    async def amap(self, items: Given, *, backend: Backend | None = None, **how: Any) -> Items:
        """The same in a running loop. ``items`` may be an async iterator."""
        async with contextlib.aclosing(self.amap_iter(items, backend=backend, **how)) as done:
            return in_order([item async for item in done])

    def amap_iter(
        self,
        items: Given,
        *,
        backend: Backend | None = None,
        concurrency: int = CONCURRENCY,
        progress: bool = False,
        resume: str | Path | None = None,
        key: Callable[[Any], str] | None = None,
        warm: bool = True,
        trace: str | Path | None = None,
        seed: int | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        **keywords: Any,
    ) -> AsyncGenerator[Item]:
        """Items as they are done. An item is a tuple of arguments, a dict of keywords, or else the one argument.

        ``concurrency``: items at once; an iterator is read only so far ahead. ``resume``: a file that keeps what is
        done, so that the same map goes on after an end, and runs again only what failed; ``key`` names an item there
        whose arguments are no JSON. ``warm``: what all items say first is computed before they start; for that the
        bodies of the first three run up to their first call, twice. ``progress``: a bar on stderr. ``trace``: a
        timeline. ``seed``: each item has its own, drawn from it. ``keywords`` go to every item's run, ``timeout`` too.

        An item's error is kept in it. Raises UserError for a resume file that is no such file, or in use.
        """
        chosen = backend or default_backend()

        async def run(backend: Backend, number: int, item: Any) -> State:
            args = item if isinstance(item, tuple) else () if isinstance(item, dict) else (item,)
            own: dict[str, Any] = {**keywords, **item} if isinstance(item, dict) else dict(keywords)
            own.setdefault("seed", None if seed is None else derived_seed(seed, "item", number))
            return await self.arun(*args, backend=backend, template_kwargs=template_kwargs, **own)

        options = {**keywords, "seed": seed, "template_kwargs": template_kwargs}
        mapped = Mapped(
            self.name, self.body, run, {name: value for name, value in options.items() if name != "timeout"}
        )
        resumed = None if resume is None else Path(resume)
        return amap_iter(mapped, items, chosen, Wish(concurrency, progress, resumed, key, warm, trace))

    def trace(
        self, *args: Any, backend: Backend | None = None, answers: Answers | None = None, **keywords: Any
    ) -> Graph:
        """A dry run: the calls that the program would make, as a graph to be printed or drawn. Nothing is generated.

        The body runs for real, and gets placeholders: the first choice, a small value of a schema, else "<name>". What
        depends on values goes their way, unless ``answers`` has a text, or several in turn, for a name. A ``backend``
        is asked only how many tokens the texts have.
        """
        return self._alone(
            "atrace",
            backend or Placeholders(),
            lambda chosen: self.atrace(*args, backend=chosen, answers=answers, **keywords),
        )

    async def atrace(
        self, *args: Any, backend: Backend | None = None, answers: Answers | None = None, **keywords: Any
    ) -> Graph:
        """The same in a running loop."""
        return await dry_run(
            self.name,
            lambda placeholders: self.arun(*args, backend=placeholders, **keywords),
            answers=answers,
            counting=backend,
        )

    def _alone(self, spelling: str, backend: Backend | None, whole: Callable[[Backend], Coroutine[Any, Any, T]]) -> T:
        """In a loop of its own. Raises RuntimeError where one runs already, in which ``spelling`` is for use."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError(
                f"a loop is running already: `await {self.name}.{spelling}(…)`, or {self.name}(s, …) in a program"
            )
        chosen = backend or default_backend()

        async def closing() -> T:
            try:
                return await whole(chosen)
            finally:
                await chosen.close()  # its connections belong to this loop

        with asyncio.Runner() as runner:
            return runner.run(closing())

    async def _whole(self, program: Program, bound: Bound, timeout: float | None, trace: str | Path | None) -> None:
        with traced(trace), observed(program.backend, self.name, bound.told) as program.backend:
            try:
                with contextlib.nullcontext() if timeout is None else Deadline(timeout):
                    state = State(program, program.root)
                    program.returned = await running(self.body, state, *bound.args, **bound.keywords)
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
