"""`@rs.function`: a function of a state, and the ways to run it as a program."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import reprlib
import types
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import uvloop

from rootstream.lang.bodies import running
from rootstream.lang.branch import Manner
from rootstream.lang.calls import Backend
from rootstream.lang.deadlines import Deadline
from rootstream.lang.default import default_backend
from rootstream.lang.driven import Driven
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
from rootstream.lang.tracing.placeholders import Answers
from rootstream.lang.waiting import may_wait, wait

T = TypeVar("T")


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
    trace: str | Path | None = None
    """The file of a timeline."""


class Bound(NamedTuple):
    """What was given, sorted by whom it is for."""

    args: tuple[Any, ...]
    keywords: dict[str, Any]
    defaults: dict[str, Any]
    options: Options

    def told(self) -> dict[str, Any]:
        """For whoever reads a timeline."""
        named = {str(place): argument for place, argument in enumerate(self.args)} | self.keywords
        return {name: reprlib.repr(argument) for name, argument in named.items()}

    def program(self) -> Program:
        options = self.options
        manner = Manner(self.defaults, options.seed, dict(options.template_kwargs or {}), options.stream)
        return Program(options.backend or default_backend(), manner)


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

    def __get__(self, instance: object, owner: type | None = None) -> Function:
        """For methods: `def f(self, s, …)` in a class is a program of its instances."""
        return self if instance is None else Function(types.MethodType(self.body, instance))

    def __call__(self, s: State, /, *args: Any, **keywords: Any) -> Any:
        """Run the body inline, on ``s``; what it returns. To be awaited in an async body."""
        if not isinstance(s, State):  # pyright: ignore[reportUnnecessaryIsInstance] - users may not check types
            raise TypeError(f"{self.name}(s, …) goes on with a program's state: {self.name}.run(…) starts one")
        if not may_wait():
            return running(self.body, s, *args, **keywords)
        returned = self.body(s, *args, **keywords)
        return wait(returned) if inspect.iscoroutine(returned) else returned

    def run(self, *args: Any, **keywords: Any) -> State:
        """Run to the end, in a loop of its own. Ctrl-C ends it at the server too.

        With ``stream=True`` it returns at once, and the program runs while one reads from its state, as with text_iter.
        Raises what the body raises, CallError, DeadlineExceeded when the time is over.
        """
        self._check_alone("arun")
        bound = self._bound(args, keywords)
        program = bound.program()
        whole = _closing(program.backend, self._whole(program, bound))
        if bound.options.stream:
            return Driven(program, _runner(), whole)
        with _runner() as runner:
            runner.run(whole)
        return State(program, program.root)

    async def arun(self, *args: Any, **keywords: Any) -> State:
        """Run to the end. Raises as run() does; cancelling it cancels its calls at the server."""
        bound = self._bound(args, keywords)
        program = bound.program()
        await self._whole(program, bound)
        return State(program, program.root)

    def start(self, *args: Any, **keywords: Any) -> Running:
        """Run beside what else the loop does: `await state` for its end, `state.stream(…)` for its text as it comes."""
        bound = self._bound(args, keywords)
        program = bound.program()
        program.task = asyncio.get_running_loop().create_task(self._whole(program, bound), name=self.name)
        return Running(program, program.root)

    def map(self, items: Iterable[Any], *, backend: Backend | None = None, **how: Any) -> Items:
        """Run for every item, many at once, in a loop of its own; all Items in the order of ``items``.

        ``how`` is as in :meth:`amap_iter`. Ctrl-C ends it; with a resume file, the same again goes on from there.
        """
        self._check_alone("amap")
        chosen = backend or default_backend()
        with _runner() as runner:
            return runner.run(_closing(chosen, self.amap(items, backend=chosen, **how)))

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
        deciding = {name: value for name, value in options.items() if name != "timeout"}
        mapped = Mapped(self.name, self.body, run, deciding)
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
        self._check_alone("atrace")
        whole = self.atrace(*args, backend=backend, answers=answers, **keywords)
        with _runner() as runner:
            return runner.run(whole if backend is None else _closing(backend, whole))

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

    def _check_alone(self, spelling: str) -> None:
        """Raises RuntimeError where a loop runs already, in which ``spelling`` is for use."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise RuntimeError(f"a loop runs already: `await {self.name}.{spelling}(…)`, or {self.name}(s, …) in a program")

    async def _whole(self, program: Program, bound: Bound) -> None:
        timeout = bound.options.timeout
        try:
            with (
                traced(bound.options.trace),
                observed(program.backend, self.name, bound.told) as program.backend,
            ):
                try:
                    with contextlib.nullcontext() if timeout is None else Deadline(timeout):
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


async def _closing(backend: Backend, whole: Coroutine[Any, Any, T]) -> T:
    """``whole``, in a loop that ends with it."""
    try:
        return await whole
    finally:
        await backend.close()  # its connections belong to this loop


def _runner() -> asyncio.Runner:
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def function(body: Callable[..., Any]) -> Function:
    """Make a program of `def f(s, …)` or `async def f(s, …)`."""
    return Function(body)
