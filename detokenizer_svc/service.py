"""The detokenizer process: reads Tracks and Steps, writes Texts, Aborts and Failed.

Owns the cursors and the trimming of its own `detok` stream. After a restart it reads both streams from
what is left of them and repeats what it once sent; readers drop what they have.
"""

from __future__ import annotations

import asyncio
import time

import msgspec
import structlog
from prometheus_client import Counter, Gauge, Histogram

from detokenizer_svc.detokenizer import Detokenizer, Output
from detokenizer_svc.tracing import TextSpans
from shared import columns
from shared.bus import Entry, Reader
from shared.config import WORKER
from shared.cursors import START, entry_key, seconds_of
from shared.metrics import MICROS, SECONDS
from shared.model_files import locate
from shared.protocol import Abort, Opened, Restate, Restated, Step, Track, Untrack
from shared.registry import State
from shared.rounds import WAITS
from shared.service import Context
from shared.tokenizer import Tokenizer

log = structlog.get_logger("detokenizer")

_TRIM_S = 1.0
_SWEEP_S = 10.0


async def serve(context: Context) -> None:
    """Load the tokenizer, then follow the log until told to stop."""
    await context.announce(State.LOADING, "loading the tokenizer")
    tokenizer = await asyncio.to_thread(_load, context)
    service = _Service(context, Detokenizer(tokenizer.stream))
    context.spawn(service.follow())
    await context.announce(State.READY)
    await context.stopping.wait()
    await context.idle()


def _load(context: Context) -> Tokenizer:
    settings = context.settings
    return Tokenizer.load(locate(settings.model, settings.cache_path, settings.load_format), settings.cache_path)


class _Service:
    def __init__(self, context: Context, detokenizer: Detokenizer) -> None:
        self._context = context
        self._bus = context.bus
        self._detokenizer = detokenizer
        names = context.bus.names
        self._detok = names.detok(context.replica)
        self._steps = names.steps(WORKER)
        self._reader = Reader(context.bus, [self._detok, self._steps])
        self._spans = TextSpans(context.tracing) if context.tracing else None
        self._suspects: list[int] = []
        self._suspected_at = START
        self._metrics = _Metrics(context, detokenizer)

    async def follow(self) -> None:
        """Fold the logs; what a batch amounts to is written before the next is read."""
        trimmed = swept = time.monotonic()
        rounds = self._context.rounds
        while True:
            rounds.end()
            entries = await self._reader.next(block_ms=int(_TRIM_S * 1000))
            rounds.begin(len(entries))
            if entries:
                started = time.perf_counter()
                for entry in entries:
                    self._fold(entry)
                output = self._detokenizer.take()
                self._metrics.count(output, time.perf_counter() - started)
                rounds.begin(WAITS)
                await self._write(output, entries)
            rounds.begin(WAITS)
            if time.monotonic() - trimmed >= _TRIM_S:
                trimmed = time.monotonic()
                self._detokenizer.remind()
                await self._write(self._detokenizer.take(), [])
                await self._trim()
            if time.monotonic() - swept >= _SWEEP_S:
                swept = time.monotonic()
                await self._sweep()

    def _fold(self, entry: Entry) -> None:
        match entry.message:
            case Track() as track:
                log.debug("tracking", request=f"{track.id:016x}")
                self._detokenizer.track(track, entry.id)
                if self._spans is not None:
                    self._spans.tracked(track)
            case Untrack(id=request_id):
                self._detokenizer.untrack(request_id)
                if self._spans is not None:
                    self._spans.untracked(request_id, time.time_ns())
            case Opened() as opened:
                self._detokenizer.on_opened(opened, entry.id)
            case Step() as step:
                self._detokenizer.on_step(step, entry.id)
            case Restated() as restated:
                self._detokenizer.on_restated(restated, entry.id)
            case _:
                pass  # Hello and the like: not for us

    async def _write(self, output: Output, entries: list[Entry]) -> None:
        names = self._bus.names
        writes = self._bus.transaction()
        steps = [entry.id for entry in entries if entry.stream == self._steps]
        stepped = seconds_of(steps[-1]) if steps else 0.0
        for replica, texts in output.texts.items():
            writes.append(names.texts(replica), msgspec.structs.replace(texts, stepped=stepped))
        if output.restate:
            log.warning("tokens missing, asking the scheduler for them", requests=len(output.restate))
            writes.append(names.requests, Restate(columns.uint64(output.restate)))
        for request_id in output.aborts:
            writes.append(names.requests, Abort(id=request_id))
        if len(writes) == 0:
            return
        await writes.commit()
        if self._spans is not None:
            self._spans.wrote(output.texts.values(), time.time_ns())
        if steps:
            self._metrics.hop.observe(max(0.0, time.time() - entry_key(steps[0])[0] / 1000))

    async def _trim(self) -> None:
        """Forget Tracks that no restart needs; only then say that their steps are not needed either.

        In the other order a restart could find a Track whose steps are gone.
        """
        watermark = self._detokenizer.watermark
        oldest = self._detokenizer.oldest_track or self._reader.cursors[self._detok]
        if oldest != START:
            # a Track that stayed would be tracked after a restart, and its steps may be gone
            await self._bus.transaction().trim(self._detok, oldest, exactly=True).commit()
        self._context.watermark = watermark

    async def _sweep(self) -> None:
        """Forget requests that ended with nobody left to say so: they would hold the step log for ever.

        A request leaves `live` when the scheduler has read its end in the step log. So one that was missing
        there, and is still tracked when the log as of then has been read, ended some other way.
        """
        if entry_key(self._reader.cursors[self._steps]) >= entry_key(self._suspected_at):
            tracked = self._detokenizer.tracked()
            live = await self._bus.present(self._bus.names.live, [str(request_id) for request_id in tracked])
            missing = [request_id for request_id in tracked if str(request_id) not in live]
            for request_id in set(missing) & set(self._suspects):
                self._detokenizer.untrack(request_id)
            self._suspects = missing
            self._suspected_at = await self._bus.last_id(self._steps)


class _Metrics:
    def __init__(self, context: Context, detokenizer: Detokenizer) -> None:
        registry = context.metrics
        prefix = "rootstream_detokenizer"
        self._tokens = Counter(f"{prefix}_tokens", "Tokens turned into text.", registry=registry)
        self._texts = Counter(f"{prefix}_texts", "Texts messages written.", registry=registry)
        self._stops = Counter(f"{prefix}_stop_matches", "Requests ended by a stop string.", registry=registry)
        tracked = Gauge(f"{prefix}_tracked", "Requests being turned into text.", registry=registry)
        tracked.set_function(lambda: len(detokenizer))
        self._fold = Histogram(
            f"{prefix}_fold_seconds", "Time to turn one batch of steps into text.", registry=registry, buckets=MICROS
        )
        self.hop = Histogram(
            f"{prefix}_hop_seconds",
            "From a step being in the log to its text being written.",
            registry=registry,
            buckets=SECONDS,
        )

    def count(self, output: Output, seconds: float) -> None:
        self._tokens.inc(output.tokens)
        self._texts.inc(len(output.texts))
        self._stops.inc(output.stop_matches)
        self._fold.observe(seconds)
