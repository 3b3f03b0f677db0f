"""Steps launched ahead: step N + 1 is on the device before the tokens of step N are on the host.

What the host needs to know of step N + 1 follows from step N without its tokens: a row that draws a token goes on with
that token, at the next position, in a slot that was granted before. The token itself is read on the device, from the
history that the sampler keeps. When the host has seen the tokens of step N, a row may turn out to have ended, or to go
on with a forced run; what step N + 1 draws for it is void then (``Batch.version``), and never reaches a report. Drawing
it again is exact, because a draw is a function of (seed, token index).

A row that has ended at N still has one token computed by N + 1: KV is written at its last position, which it was
granted. That is harmless. The scheduler gives the page to another row only after it has read of the end, in a plan that
this engine applies later, and so in a step that the device runs later: there is one stream. And nobody reads the page
meanwhile: the scheduler keeps whole pages of tokens with KV, by its count, in which the last token has none. The same
holds for rows that are released, and for all rows when an epoch ends. Rows whose end is known ahead (``max_tokens``,
the context) are not launched beyond it.

Rows that obey a grammar run ahead, too, if their automaton is resident (:mod:`gpu_worker.grammar.resident`): the
device follows it to the mask of the next draw, and the host when it sees the token. All others wait for their token,
and take part in every second step. That is better than to make the whole batch wait for them: it halves the speed
of rows that are slow anyway, and a batch of nothing else runs in lock-step by itself, since there is nothing to
launch ahead.

The gap of a step is what the device's own clock says between the end of the step before and its beginning, by events in
its queue: how long it had nothing to do while there were rows. The duration of a step is measured likewise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gpu_worker.batch import Chunk, Int32, Int64, Outcome, StepInputs
from gpu_worker.constraints import Refused
from gpu_worker.device import Mark, Queue
from gpu_worker.device_rows import DeviceRows, HostFacts
from gpu_worker.execution import Ran, Rows
from gpu_worker.following import Following
from gpu_worker.graphs import Graphs, StepSize
from gpu_worker.kernels.masks import FREE
from gpu_worker.page_tables import PageNews, PageTables
from gpu_worker.pooling import Pooled, Pools, vectors_of
from gpu_worker.scoring import Scored, Want, asked_ids, score, unpacked
from gpu_worker.step_columns import Host, Sender, Sizes, StepColumns, columns_on_device
from shared.protocol import Admit, Finish, Scores, Vector


class _Draws(NamedTuple):
    """The draws of a step: columns [L], see StepColumns."""

    rows: Int32  # row slots; -1 where no token is drawn now
    automata: Int32
    states: Int32
    bases: Int32
    masks: Int32
    masked: bool  # some row obeys a grammar
    stalling: list[tuple[int, int]]  # places and row slots of those whose logits are kept, or that fail
    wants: dict[int, Want]  # by place: what is wanted of the tokens besides themselves


class _Besides(NamedTuple):
    """What a step computes besides tokens, in host memory once it is done."""

    scored: Sequence[Scored]
    pooled: Sequence[Pooled]

    @property
    def rows(self) -> list[int]:
        """Row slots that it is about."""
        wants = [want.row for scored in self.scored for want in scored.wants]
        return wants + [span.row for pooled in self.pooled for span in pooled.spans]


_NOTHING = _Besides((), ())


class _Flight(NamedTuple):
    """A step that was launched."""

    plan: int
    grown: list[int]  # rows with something to tell besides what is drawn
    grown_versions: Int64
    rows: Int64  # [L] row slots that draw
    versions: Int64  # [L]
    tokens: Tensor | None  # int64 [L] in host memory, written before ``end``; -1 where there was nothing to draw from
    has_kv: Int32  # by row slot: tokens with KV once the step is done
    computed: int
    besides: _Besides
    besides_versions: Int64
    before: Mark | None  # end of the step before, if rows were left
    begin: Mark
    end: Mark


class Pipelined:
    """An execution that launches each step before it has seen the tokens of the one before."""

    def __init__(self, rows: Rows, device_rows: DeviceRows, graphs: Graphs, queue: Queue) -> None:
        self._rows = rows
        self._batch, self._constraints = rows.batch, rows.constraints
        self._device_rows = device_rows
        self._graphs = graphs
        self._queue = queue
        self._sampler = device_rows.sampler
        self._following = Following(rows, device_rows.masking)
        self._pages = PageTables(rows.batch, device_rows.page_tables.shape[1])
        self._sender = Sender(queue, device_rows.device)
        slots = len(rows.batch.ids)
        self._results = [queue.host_buffer(16 * slots) for _ in range(2)]  # int64 of twice as many draws
        self._ends_at = np.zeros(slots, np.int32)  # length at which a row ends, whatever its tokens are
        self._pools = Pools()
        self._undrawable: dict[int, str] = {}  # row slots, and why the sampler cannot have them
        self._flight: _Flight | None = None
        self._last_end: Mark | None = None  # None where nothing was left to do

    @property
    def has_work(self) -> bool:
        return self._flight is not None or bool(self._constraints.resumed) or self._batch.runnable

    def idle(self) -> None:
        self._last_end = None

    def forget(self) -> None:
        """What is in flight is nobody's; it ends before anything that is launched later begins."""
        self._flight = None
        self._undrawable.clear()
        self._following.forget()

    def admitted(self, admits: Iterable[Admit]) -> None:
        batch = self._batch
        for admit in admits:
            row = batch.row_of(admit.id)
            assert row is not None, "a plan admits after it releases"
            sampling, length = admit.sampling, int(batch.length[row])
            self._ends_at[row] = min(admit.prompt_len + sampling.max_tokens, batch.context_length)
            self._pages.admitted(row)
            self._following.admitted(row)
            self._undrawable.pop(row, None)
            try:
                self._sampler.admit(row, sampling, batch.tokens[row, :length], admit.prompt_len)
            except ValueError as error:
                self._undrawable[row] = str(error)  # told when its chunks are computed: they are planned

    @torch.inference_mode()
    def run(self, chunks: Sequence[Chunk], plan: int) -> Ran | None:
        done, self._flight = self._flight, self._launch(chunks, plan)
        return None if done is None else self._collect(done)

    # --- launching

    def _launch(self, chunks: Sequence[Chunk], plan: int) -> _Flight | None:
        batch, spare = self._batch, self._rows.spare(chunks)
        chunks, grown = self._constraints.begin(chunks, spare)
        resumed = self._constraints.take_resumed()
        grown += [row for row, _ in resumed]
        for row in grown:
            self._begun(row)
        kept = [(row, logits) for row, logits in resumed if logits is not None]
        inputs = batch.gather(chunks, spare, with_tables=False) if chunks or batch.runnable else None
        if inputs is None and not grown:
            return None
        begin = self._queue.mark()
        draws = self._draws(inputs, [row for row, _ in kept])
        drawn, besides = self._run(inputs, draws, [logits for _, logits in kept])
        tokens = None if drawn is None else self._read(drawn, len(draws.rows))
        computed = 0
        if inputs is not None:
            batch.computed_now(inputs)
            computed = len(inputs.input_ids)
            grown += batch.behind(inputs)
            for row in inputs.complete:
                batch.finish[row] = Finish.LENGTH
            grown += inputs.complete
        rows = draws.rows[draws.rows >= 0].astype(np.int64)
        batch.expect(rows)
        batch.held[rows] = (batch.length[rows] >= self._ends_at[rows]) | ~self._following.ahead[rows]
        end = self._queue.mark()
        before, self._last_end = self._last_end, end
        all_rows = draws.rows.astype(np.int64)
        return _Flight(
            plan=plan,
            grown=grown,
            grown_versions=batch.version[grown],
            rows=all_rows,
            versions=batch.version[all_rows],
            tokens=tokens,
            has_kv=batch.computed.copy(),
            computed=computed,
            besides=besides,
            besides_versions=batch.version[besides.rows],
            before=before,
            begin=begin,
            end=end,
        )

    def _begun(self, row: int) -> None:
        """A row's first tokens were forced, or its text ended before it began, or neither."""
        batch = self._batch
        if row in self._undrawable:
            return
        prompt_len, length = int(batch.prompt_len[row]), int(batch.length[row])
        if batch.finish[row] is not Finish.NONE:
            batch.held[row] = True  # until it is told
        elif length > prompt_len:
            self._sampler.replace(row, prompt_len, batch.tokens[row, prompt_len:length].tolist())

    def _draws(self, inputs: StepInputs | None, resumed: list[int]) -> _Draws:
        """What is drawn in a step: for rows whose last token it computes, and from kept logits."""
        sampling = np.zeros(0, np.int64) if inputs is None else inputs.sampling_rows
        rows = np.concatenate((sampling, resumed)).astype(np.int32)
        count = len(rows)
        automata, masks = np.full(count, FREE, np.int32), np.full(count, FREE, np.int32)
        states, bases = np.zeros(count, np.int32), np.full(count, -1, np.int32)
        obeys = self._following.obeys[rows]
        stalling: list[tuple[int, int]] = []
        for row in self._undrawable:
            obeys |= rows == row
        for at in np.flatnonzero(obeys).tolist():
            row = int(rows[at])
            if self._batch.finish[row] is not Finish.NONE:
                rows[at] = -1
                continue
            matcher = None if row in self._undrawable else self._constraints.matcher(row)
            if matcher is None or isinstance(matcher, Refused):
                stalling.append((at, row))
                rows[at] = -1
            else:
                automata[at], states[at], bases[at], masks[at] = self._following.draw(row, matcher)
        wants = self._batch.next_wants(rows.tolist())
        return _Draws(rows, automata, states, bases, masks, bool((obeys & (rows >= 0)).any()), stalling, wants)

    def _run(self, inputs: StepInputs | None, draws: _Draws, kept: list[Tensor]) -> tuple[Tensor | None, _Besides]:
        """Launch a pass and its draws; int64 [>= L] on the device, None if there is nothing to draw."""
        if draws.masked and self._device_rows.masking is not None:
            self._device_rows.masking.pool.send()
        if inputs is None:
            return self._draw_alone(draws, kept)
        is_plain = not (kept or draws.stalling or draws.wants or inputs.scored or inputs.pooled)
        news = self._pages.news(inputs.rows)
        facts = _facts(inputs)
        if is_plain:
            size = StepSize(len(inputs.input_ids), len(inputs.rows), len(draws.rows), facts.max_new, len(news.cells))
            bucket = self._graphs.bucket(size)
            if bucket is not None:
                columns = self._sender.columns(bucket.sizes)
                _fill(columns, inputs, news, draws)
                bucket.pad(columns, size)
                self._sender.send(bucket.sizes, bucket.buffer)
                return bucket.run(facts, columns, self._sampler.needs(draws.rows), masked=draws.masked), _NOTHING
        sizes = Sizes(
            len(inputs.input_ids), len(inputs.rows), len(inputs.logit_indices), len(draws.rows), len(news.cells)
        )
        _fill(self._sender.columns(sizes), inputs, news, draws)
        x = columns_on_device(self._sender.send(sizes), sizes)
        width = -(-facts.max_kv_len // self._batch.page_size)
        self._sampler.flush()
        scored: list[Scored] = []
        pooled: Pooled | None = None
        if inputs.state_indices is None:
            logits = self._device_rows.forward(x, facts, width, None)
        else:
            states = self._sent(inputs.state_indices)
            logits, states = self._device_rows.forward_with_states(x, facts, width, states)
            pooled = self._pools.take(states, inputs.pooled)
        if inputs.scored:
            count = len(inputs.sampling_rows)
            scored.append(self._score(logits[count:], inputs.scored, self._batch.tokens_of(inputs.scored)))
            logits = logits[:count]
        for at, row in draws.stalling:
            self._stall(row, logits[at])
        if kept:
            logits = torch.cat((logits, torch.stack(kept)))
        drawn = None
        if (draws.rows >= 0).any():
            drawn = self._draw(x, logits, draws, scored)
        return drawn, _Besides(
            scored, [] if pooled is None else [pooled._replace(values=self._received(pooled.values))]
        )

    def _draw(self, x: StepColumns[Tensor], logits: Tensor, draws: _Draws, scored: list[Scored]) -> Tensor:
        """Draw from logits [L, V]; what the tokens score, where that is wanted, is added to ``scored``."""
        needs = self._sampler.needs(draws.rows)
        if not draws.wants:
            return self._device_rows.draw(x, logits, needs, masked=draws.masked)
        wants = list(draws.wants.values())
        places = self._sent(np.array([*draws.wants, *asked_ids(wants)], np.int64))
        places, asked = places[: len(wants)], places[len(wants) :]
        raw = logits.index_select(0, places)
        drawn = self._device_rows.draw(x, logits, needs, masked=draws.masked)
        found = score(raw, drawn.index_select(0, places), asked, wants)
        scored.append(found._replace(values=self._received(found.values)))
        return drawn

    def _score(self, logits: Tensor, wants: Sequence[Want], tokens: list[int]) -> Scored:
        """What known tokens score."""
        numbers = self._sent(np.array([*tokens, *asked_ids(wants)], np.int64))
        found = score(logits, numbers[: len(tokens)], numbers[len(tokens) :], wants)
        return found._replace(values=self._received(found.values))

    def _sent(self, numbers: Int64) -> Tensor:
        """Numbers on the device, without waiting for it."""
        buffer = self._queue.host_buffer(numbers.nbytes).view(torch.int64)
        buffer.numpy()[:] = numbers
        return buffer.to(self._device_rows.device, non_blocking=True, copy=True)

    def _received(self, values: Tensor) -> Tensor:
        """float32 in host memory, where the device writes it before the step's end."""
        buffer = self._queue.host_buffer(4 * values.numel()).view(torch.float32)
        return buffer.view(values.shape).copy_(values, non_blocking=True)

    def _draw_alone(self, draws: _Draws, kept: list[Tensor]) -> tuple[Tensor | None, _Besides]:
        """Draw from kept logits, without a pass."""
        if not kept:
            return None, _NOTHING
        sizes = Sizes(0, 0, 0, len(draws.rows), 0)
        _fill(self._sender.columns(sizes), None, None, draws)
        x = columns_on_device(self._sender.send(sizes), sizes)
        scored: list[Scored] = []
        return self._draw(x, torch.stack(kept), draws, scored), _Besides(scored, ())

    def _stall(self, row: int, logits: Tensor) -> None:
        """Keep the logits [V] of a row whose grammar is not there; end one that cannot go on."""
        message = self._undrawable.get(row)
        if message is None:
            self._constraints.stall(row, logits)
        else:
            self._rows.fail(row, message)

    def _read(self, drawn: Tensor, count: int) -> Tensor:
        """Let the device write what it draws into host memory; a buffer is used again two steps later."""
        self._results.reverse()
        tokens = self._results[0].view(torch.int64)[:count]
        tokens.copy_(drawn[:count], non_blocking=True)
        return tokens

    # --- what came of it

    def _collect(self, flight: _Flight) -> Ran:
        flight.end.wait()
        batch = self._batch
        current = batch.version[flight.grown] == flight.grown_versions
        grown = [row for row, valid in zip(flight.grown, current.tolist(), strict=True) if valid]
        if flight.tokens is not None:
            valid = (flight.rows >= 0) & (batch.version[flight.rows] == flight.versions)
            rows, tokens = flight.rows[valid].tolist(), flight.tokens.numpy()[valid].tolist()
            grown += rows
            self._see(rows, tokens)
        scores, vectors = self._besides(flight)
        outcomes = self._outcomes(grown, flight.has_kv)
        gap = 0 if flight.before is None else flight.begin.since(flight.before)
        if not len(batch):
            self._last_end = None
        return Ran(flight.plan, outcomes, flight.computed, flight.end.since(flight.begin), gap, scores, vectors)

    def _besides(self, flight: _Flight) -> tuple[list[Scores], list[Vector]]:
        """What was computed besides tokens for rows that are still what they were."""
        besides, batch = flight.besides, self._batch
        if besides is _NOTHING:
            return [], []
        current = batch.version[besides.rows] == flight.besides_versions
        valid = {row for row, is_valid in zip(besides.rows, current.tolist(), strict=True) if is_valid}
        scores = [each for scored in besides.scored for each in unpacked(scored, lambda want: want.row in valid)]
        vectors = [
            vector
            for pooled in besides.pooled
            for vector in vectors_of(pooled, [span.row in valid for span in pooled.spans])
        ]
        return scores, vectors

    def _see(self, rows: list[int], tokens: list[int]) -> None:
        """The host learns what was drawn."""
        batch = self._batch
        as_expected: list[int] = []
        free: list[int] = []  # no draw is under way for them any more
        for row, token in zip(rows, tokens, strict=True):
            under_way = batch.recall(row) - 1
            if token < 0:
                self._rows.fail(row)
                continue
            expected = int(batch.length[row]) + 1
            batch.extend(row, (token,))
            if self._following.obeys[row]:
                self._constraints.drawn(row, token)
                if not batch.occupied[row]:
                    continue
            length = int(batch.length[row])
            if batch.finish[row] is not Finish.NONE:
                continue  # it leaves when that is told
            if length > expected:
                batch.version[row] += 1
                self._sampler.replace(row, expected, batch.tokens[row, expected:length].tolist())
                free.append(row)
            elif under_way:
                as_expected.append(row)
            else:
                free.append(row)
        batch.expect(np.array(as_expected, np.int64))
        batch.held[free] = False

    def _outcomes(self, rows: Iterable[int], has_kv: Int32) -> list[Outcome]:
        """What is new of rows that grew or ended; one that failed has left."""
        batch = self._batch
        return [batch.outcome(row, int(has_kv[row])) for row in dict.fromkeys(rows) if batch.occupied[row]]


def _facts(inputs: StepInputs) -> HostFacts:
    return HostFacts(
        num_decodes=inputs.num_decodes,
        max_kv_len=int(inputs.kv_lens.max()),
        max_new=int(np.diff(inputs.starts).max()),
        sharing=inputs.sharing,
        starts=inputs.starts,
        kv_lens=inputs.kv_lens,
    )


def _fill(columns: Host, inputs: StepInputs | None, news: PageNews | None, draws: _Draws) -> None:
    """Write a step into the beginnings of its columns."""
    if inputs is not None and news is not None:
        tokens, rows = len(inputs.input_ids), len(inputs.rows)
        columns.input_ids[:tokens] = inputs.input_ids
        columns.positions[:tokens] = inputs.positions
        columns.slots[:tokens] = inputs.slots
        columns.logit_indices[: len(inputs.logit_indices)] = inputs.logit_indices
        columns.rows[:rows] = inputs.rows
        columns.starts[: rows + 1] = inputs.starts
        columns.kv_lens[:rows] = inputs.kv_lens
        columns.cells[: len(news.cells)] = news.cells
        columns.pages[: len(news.cells)] = news.pages
    count = len(draws.rows)
    columns.draws[:count] = draws.rows
    columns.automata[:count] = draws.automata
    columns.states[:count] = draws.states
    columns.bases[:count] = draws.bases
    columns.masks[:count] = draws.masks
