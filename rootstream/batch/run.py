"""One run of a batch, from the check of its input to the last line of its output.

Owns the order of things and the exit code: 0 when every request has a good answer, 1 when some failed, 2 for what only
the user can mend (nothing was sent then), 3 when the server went away, 130 when the run was stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rootstream.batch.asking import Asker, Gone, Patience
from rootstream.batch.lines import Result, Tokens, mark_of, tokens_of
from rootstream.batch.pace import Pace
from rootstream.batch.progress import Counts, Shown
from rootstream.batch.results import Results, is_well_known
from rootstream.batch.source import Index, Numbered, Source, open_source
from rootstream.client import Client, NoServer, Refused, explained
from rootstream.own_server import OwnServer
from shared.config import Settings
from shared.errors import UserError

_UNKNOWN_SERVER = 64  # requests at once, where a server does not say how many it computes
_HEAD_START = 1.25  # so many times what a server computes at once: the next ones wait at its door

_STOPPED = 130
_UNFINISHED = 3


class Wish(NamedTuple):
    """What to do, as the command line has it."""

    source: Path
    output: Path
    errors: Path | None
    order: Literal["completion", "input"]
    retry_failed: bool
    concurrency: int | None
    patience: Patience
    quiet: bool


class Target(NamedTuple):
    """A server to ask."""

    url: str
    api_key: str | None
    is_alive: Callable[[], bool] = lambda: True
    """False once waiting for it is no use."""


def run(wish: Wish, target: Target | None, settings: Settings) -> int:
    """Answer a batch, by a server that is there or, without a ``target``, by one of its own; the exit code."""
    _check_paths(wish)
    with contextlib.closing(open_source(wish.source)) as source:
        if target is not None:
            return asyncio.run(_Batch(wish, source, target).run())
        source.look_through(lambda _: None)  # before a server is started in vain
        with OwnServer(settings) as server:
            return asyncio.run(_Batch(wish, source, Target(server.url, server.api_key, server.is_alive)).run())


def _check_paths(wish: Wish) -> None:
    """Raises UserError where an output would write over the input, or into the other output."""
    paths = [path.resolve() for path in (wish.source, wish.output, wish.errors) if path and str(path) != "-"]
    if len(set(paths)) < len(paths):
        raise UserError("input, output and error file must be three different files")
    if wish.errors is not None and str(wish.errors) == "-":
        raise UserError("--error-file must be a file: only the output can be standard output")


class _Batch:
    """A run towards one server."""

    def __init__(self, wish: Wish, source: Source, target: Target) -> None:
        self._wish = wish
        self._source = source
        self._target = target
        self._url = Client(target.url).url
        self._stopping = asyncio.Event()
        self._asked: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        wish = self._wish
        async with Client(self._target.url, self._target.api_key) as client:
            await _check_server(client)
            index = self._source.look_through(await _known_urls(client))
            most = wish.concurrency or await _room(client)
        with contextlib.ExitStack() as files:
            output = Results(wish.output, kept_back=wish.order == "input")
            files.callback(output.close)
            errors = output
            if wish.errors is not None:
                errors = Results(wish.errors)
                files.callback(errors.close)
            if not all(is_well_known(results, index.lines) for results in (output, errors)):
                raise UserError(
                    f"{wish.output} has results, but none of a request in {self._source.name}: name another"
                )
            if wish.retry_failed:
                errors.forget_failed()
            code = await self._answer(index, output, errors, most)
            if wish.order == "input" and code in {0, 1}:
                output.put_in_order(index.lines)
            return code

    async def _answer(self, index: Index, output: Results, errors: Results, most: int) -> int:
        good, failed = (
            sum(mark in index.lines for mark in marks)
            for marks in (output.good | errors.good, (output.failed | errors.failed) - output.good)
        )
        counts = Counts(len(index), good, failed)
        there = output.good | output.failed | errors.failed
        shown = Shown(counts, quiet=self._wish.quiet)
        if counts.before:
            shown.say(f"{counts.before} of {counts.total} are answered already: going on with the rest")
        began = time.monotonic()
        gone: UserError | None = None
        with shown, self._interruptible(shown):
            target = self._target
            async with Asker(self._url, target.api_key, Pace(most), self._wish.patience, target.is_alive) as asker:

                def keep(result: Result) -> None:
                    (output if result.is_good else errors).add(result)
                    tokens = tokens_of(result.response.body) if result.response is not None else Tokens()
                    counts.add(tokens, time.monotonic(), is_good=result.is_good)

                try:
                    await self._ask_all(asker, self._requests(there), most, keep, shown)
                except UserError as error:
                    gone = error
        self._report(shown, counts, time.monotonic() - began, gone)
        if gone is not None and not isinstance(gone, Gone):
            return 2
        if counts.left:
            return _UNFINISHED if gone is not None else _STOPPED
        return 1 if counts.failed else 0

    def _requests(self, there: set[bytes]) -> Iterator[Numbered]:
        """What is still to be asked."""
        return (one for one in self._source.requests() if mark_of(one.request.custom_id) not in there)

    async def _ask_all(
        self,
        asker: Asker,
        requests: Iterator[Numbered],
        most: int,
        keep: Callable[[Result], None],
        shown: Shown,
    ) -> None:
        """Keep as many under way as may be. Raises what ends the run, when those under way have been dropped."""

        async def one(numbered: Numbered) -> None:
            keep(await asker.ask(numbered.request))

        try:
            while not self._stopping.is_set():
                numbered = next(requests, None)
                if numbered is None:
                    break
                self._asked.add(asyncio.create_task(one(numbered)))
                while len(self._asked) >= most and not self._stopping.is_set():
                    await self._some_done(shown)
            while self._asked:
                await self._some_done(shown)
        finally:
            for task in self._asked:
                task.cancel()
            await asyncio.gather(*self._asked, return_exceptions=True)

    async def _some_done(self, shown: Shown) -> None:
        done, self._asked = await asyncio.wait(self._asked, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
        shown.update()
        for task in done:
            if not task.cancelled():
                task.result()

    @contextlib.contextmanager
    def _interruptible(self, shown: Shown) -> Generator[None]:
        """The first Ctrl-C lets what is under way finish, the second drops it."""
        loop = asyncio.get_running_loop()

        def interrupted() -> None:
            if self._stopping.is_set():
                for task in self._asked:
                    task.cancel()
                return
            self._stopping.set()
            shown.say(f"stopping when the {len(self._asked)} requests under way are answered; once more to drop them")

        numbers = (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, interrupted)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _report(self, shown: Shown, counts: Counts, seconds: float, gone: UserError | None) -> None:
        wish = self._wish
        rate = counts.completion_tokens / seconds if seconds > 0 else 0.0
        shown.say(
            f"{counts.done} done, {counts.failed} failed, {counts.left} left in {seconds:.1f} s; "
            f"{counts.prompt_tokens:,} prompt and {counts.completion_tokens:,} generated tokens, {rate:,.0f} tokens/s"
        )
        if counts.failed:
            where = wish.errors or wish.output
            shown.say(f"what failed is in {where}: --retry-failed asks it again")
        if gone is not None:
            shown.say(f"rootstream: {gone}")
        if counts.left:
            can_go_on = "-" not in {str(wish.output), str(wish.source)}
            shown.say(
                f"to go on, run the same command again: what is in {wish.output} is not asked again"
                if can_go_on
                else "such a run cannot be gone on with: give -i and -o files for that"
            )


async def _check_server(client: Client) -> None:
    """Raises UserError where nobody answers, or the key is unknown."""
    try:
        await client.get("/v1/models")
    except NoServer as error:
        raise UserError(
            f"{error}: start one with `rootstream serve`, or leave --url out for one of the run's own"
        ) from None
    except Refused as refused:
        if refused.status in {401, 403}:
            raise UserError(f"{client.url} refuses: {explained(refused)}") from None


async def _room(client: Client) -> int:
    """How many requests at once keep the server full."""
    try:
        info: Mapping[str, Any] = await client.get("/server_info")
        running = int(info["model_card"]["max_running"])
    except (NoServer, Refused, KeyError, TypeError, ValueError):
        return _UNKNOWN_SERVER
    return max(1, int(running * _HEAD_START))


async def _known_urls(client: Client) -> Callable[[str], str | None]:
    """What is wrong with a url, going by the server's own description of itself; nothing where it has none."""
    try:
        document: Mapping[str, Any] = await client.get("/openapi.json")
        paths = {path for path, operations in document["paths"].items() if "post" in operations}
    except (NoServer, Refused, KeyError, TypeError, AttributeError, ValueError):
        return lambda _: None
    patterns = [path.split("/") for path in paths if "{" in path]

    def wrong(url: str) -> str | None:
        path = url.partition("?")[0]
        parts = path.split("/")
        if path in paths or any(_fits(parts, pattern) for pattern in patterns):
            return None
        return f"url {url!r} is not served at {client.url}: it has {', '.join(sorted(paths))}"

    return wrong


def _fits(parts: list[str], pattern: list[str]) -> bool:
    return len(parts) == len(pattern) and all(
        place.startswith("{") or part == place for part, place in zip(parts, pattern, strict=True)
    )
