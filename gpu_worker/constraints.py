"""Which rows obey which grammar: waiting for it, masks, forced runs, the end of the text.

A row may be admitted before its grammar is compiled. Its prompt is computed meanwhile; if the grammar is still not
there then, the row's logits are kept until it is. Knows nothing of streams, plans or the model.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from gpu_worker.batch import Batch, Chunk
from gpu_worker.grammar.loading import GrammarReady
from gpu_worker.grammar.mask_pool import MaskPool
from gpu_worker.grammar.matcher import AutomatonGrammar, CompiledGrammar, Matcher
from gpu_worker.kernels.masks import FREE
from shared.grammar import EXHAUSTED
from shared.protocol import Admit, Finish, Jump

_KEPT = 512  # grammars at hand
_KEPT_BYTES = 512 * 2**20
_FORCED_CALLS = 64  # runs in a row; more are found at the next step

_OUT_OF_STEP = "the output so far is not what its grammar allows: send the request again"


def _why(matcher: Matcher) -> str:
    """What to say of a row whose token its matcher does not take."""
    return EXHAUSTED if matcher.exhausted else _OUT_OF_STEP


class Refused(NamedTuple):
    """In place of a matcher: why a row cannot go on."""

    message: str


class _Row(NamedTuple):
    """A row's grammar in force."""

    id: int
    matcher: Matcher | Refused
    ends: tuple[int, ...]  # tokens that end a text where it may end


class Constraints:
    """The grammars of one batch's rows."""

    def __init__(
        self, batch: Batch, masks: MaskPool | None, eos_ids: Sequence[int], want: Callable[[str], None]
    ) -> None:
        """``want`` is told the key of each grammar that is not at hand. Without ``masks`` none can be obeyed."""
        self._batch = batch
        self._masks = masks
        self._eos_ids = tuple(eos_ids)
        self._want = want
        self._at_hand: OrderedDict[str, CompiledGrammar] = OrderedDict()
        self._rows: dict[int, _Row] = {}  # by row index; valid only while the row still has the same id
        self._waiting: dict[str, dict[int, None]] = {}  # ids of requests by the key of the grammar they lack
        self._stalled: dict[int, Tensor] = {}  # logits of requests whose prompt is computed, by id
        self.resumed: list[int] = []  # ids of those whose grammar has come since
        self.failed: list[tuple[int, str]] = []  # ids and messages to report

    def clear(self) -> None:
        """Forget every row; grammars stay at hand."""
        self._rows.clear()
        self._waiting.clear()
        self._stalled.clear()
        self.resumed, self.failed = [], []

    def admit(self, admit: Admit) -> None:
        """A row has joined the batch."""
        asked = admit.sampling.grammar
        row = self._batch.row_of(admit.id)
        if asked is None or row is None or not admit.sampling.max_tokens:
            return
        self._rows.pop(row, None)  # it may have been here before
        self._stalled.pop(admit.id, None)
        grammar = self._at_hand.get(asked.key)
        if grammar is not None:
            self._at_hand.move_to_end(asked.key)
            self._attach(admit.id, grammar)
        elif self._masks is None:
            self._settle(admit.id, Refused("this worker's vocabulary is not known byte by byte"))
        else:
            self._waiting.setdefault(asked.key, {})[admit.id] = None
            self._want(asked.key)

    def arrived(self, ready: GrammarReady) -> None:
        """A grammar has come, or word that it cannot be had."""
        if not isinstance(ready.grammar, str):
            self._keep(ready.key, ready.grammar)
        for id in self._waiting.pop(ready.key, ()):
            if isinstance(ready.grammar, str):
                self._settle(id, Refused(ready.grammar))
            else:
                self._attach(id, ready.grammar)

    def begin(self, chunks: Sequence[Chunk], extra: int) -> tuple[list[Chunk], list[int]]:
        """Let chunks that complete a prompt go on with what must follow it. Also returns the rows with new tokens."""
        longer: list[Chunk] = []
        begun: list[int] = []
        batch = self._batch
        for chunk in chunks:
            row, start, length = chunk
            matcher = self.matcher(row)
            is_last = start + length == batch.length[row] == batch.prompt_len[row]
            if is_last and matcher is not None and not isinstance(matcher, Refused):
                self._end_or_force(row, matcher, None)
                more = min(int(min(batch.length[row], batch.limit[row])) - start - length, max(0, extra))
                begun.append(row)
                if more > 0 and batch.finish[row] is Finish.NONE:
                    length += more
                    extra -= more
            longer.append(Chunk(row, start, length))
        return longer, begun

    def is_obeyed(self, row: int) -> bool:
        """Does a row have a grammar to obey?"""
        sampling = self._batch.sampling[row]
        return sampling is not None and sampling.grammar is not None

    def matcher(self, row: int) -> Matcher | Refused | None:
        """What a row obeys; None while its grammar is not there, and where it has none."""
        found = self._rows.get(row)
        return found.matcher if found is not None and found.id == self._batch.ids[row] else None

    def stall(self, row: int, logits: Tensor) -> bool:
        """Keep the logits [V] of a row that has to wait for its grammar; end one whose grammar was refused.

        False if a token may be drawn.
        """
        id = self._batch.ids[row]
        match self.matcher(row):
            case None:
                self._stalled[id] = logits.clone()
                return True
            case Refused(message):
                self._fail(id, message)
                return True
            case _:
                return False

    def take_resumed(self) -> list[tuple[int, Tensor | None]]:
        """Rows that no longer wait, with their logits if a token is to be drawn from them."""
        rows = [(self._batch.row_of(id), self._stalled.pop(id, None)) for id in self.resumed]
        self.resumed = []
        return [(row, logits) for row, logits in rows if row is not None]

    def apply_masks(self, logits: Tensor, rows: Sequence[int]) -> None:
        """Set the logits [R, V] of what the rows' grammars do not allow to minus infinity."""
        if self._masks is not None:
            self._masks.apply(logits, [self.mask_row(row) for row in rows])

    def mask_row(self, row: int) -> int:
        """The row of the mask pool for a row's next token; FREE where all are legal."""
        matcher = self.matcher(row)
        if self._masks is None or matcher is None or isinstance(matcher, Refused):
            return FREE
        return matcher.mask(self._masks, self.ends(row) if self.may_end(row) else ())

    def ends(self, row: int) -> tuple[int, ...]:
        """Tokens that end an obeying row's text where it may end."""
        return self._rows[row].ends

    def may_end(self, row: int) -> bool:
        """Are there enough tokens for the next one to end the text?"""
        sampling = self._batch.sampling[row]
        index = int(self._batch.length[row] - self._batch.prompt_len[row])
        return sampling is not None and index >= sampling.min_tokens

    def drawn(self, row: int, token: int) -> None:
        """A token was drawn for a row and appended: follow it, and append what must come after it."""
        batch = self._batch
        if batch.finish[row] is Finish.STOP:
            return
        matcher = self.matcher(row)
        if matcher is None or isinstance(matcher, Refused):
            return
        if not matcher.advance(token):
            self._fail(batch.ids[row], _why(matcher))
            return
        self._end_or_force(row, matcher, token)

    # --- one row

    def _attach(self, id: int, grammar: CompiledGrammar) -> None:
        """Give a row its matcher, and take it through the output there is."""
        batch = self._batch
        row = batch.row_of(id)
        sampling = batch.sampling[row] if row is not None else None
        if row is None or sampling is None or sampling.grammar is None:
            return
        jump = sampling.grammar.jump if sampling.scoring is None else Jump.OFF  # what is scored is drawn
        matcher = grammar.matcher(jump, row)
        for token in batch.tokens[row, batch.prompt_len[row] : batch.length[row]].tolist():
            if not matcher.advance(token):
                self._settle(id, Refused(_why(matcher)))
                return
        self._settle(id, matcher)

    def _settle(self, id: int, matcher: Matcher | Refused) -> None:
        """A row's grammar is decided: if the row has waited for nothing else, it goes on."""
        batch = self._batch
        row = batch.row_of(id)
        if row is None:
            self._stalled.pop(id, None)
            return
        ends = tuple(token for token in self._eos_ids if token in batch.stops[row])
        self._rows[row] = _Row(id, matcher, ends)
        if id not in self._stalled:
            return
        if isinstance(matcher, Refused):
            self._fail(id, matcher.message)
            return
        if batch.length[row] == batch.prompt_len[row]:
            self._end_or_force(row, matcher, None)
        if batch.finish[row] is not Finish.NONE or batch.length[row] > batch.computed[row]:
            self._stalled.pop(id, None)  # it begins with what is forced on it
        self.resumed.append(id)

    def _end_or_force(self, row: int, matcher: Matcher, previous: int | None) -> None:
        batch, masks = self._batch, self._masks
        if masks is None:
            return
        for _ in range(_FORCED_CALLS):
            if matcher.terminal:
                batch.finish[row] = Finish.STOP
            elif matcher.spent:
                batch.finish[row] = Finish.LENGTH
            if batch.finish[row] is not Finish.NONE:
                return
            run = matcher.forced(previous, masks)
            if not run:
                return
            for token in run[: batch.extend(row, run, forced=True)]:
                if not matcher.advance(token):
                    self._fail(batch.ids[row], _why(matcher))
                    return
            if batch.finish[row] is Finish.STOP:
                return
            previous = run[-1]

    def _fail(self, id: int, message: str) -> None:
        self._stalled.pop(id, None)
        self.failed.append((id, message))
        self._batch.release(id)

    def _keep(self, key: str, grammar: CompiledGrammar) -> None:
        self._at_hand[key] = grammar
        total = sum(kept.nbytes for kept in self._at_hand.values())
        while len(self._at_hand) > 1 and (len(self._at_hand) > _KEPT or total > _KEPT_BYTES):
            _, oldest = self._at_hand.popitem(last=False)
            total -= oldest.nbytes
            if self._masks is not None and isinstance(oldest, AutomatonGrammar):
                self._masks.forget(oldest.automaton)
