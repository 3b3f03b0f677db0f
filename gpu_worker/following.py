"""Who follows the grammar of a row, the device or the host; and what a draw for it needs.

A row whose automaton is resident is followed on the device from one token to the next, and by the host when it sees the
token. Every other row that obeys a grammar is followed by the host alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gpu_worker.device_rows import Masking
from gpu_worker.execution import Rows
from gpu_worker.grammar.automaton import Automaton
from gpu_worker.grammar.matcher import AutomatonMatcher, Matcher
from gpu_worker.grammar.resident import Place
from gpu_worker.kernels.masks import FREE

_AS_IT_IS = -1


class DrawColumns(NamedTuple):
    """One row's entries in the columns of a draw; see StepColumns."""

    automaton: int = FREE
    state: int = 0
    base: int = -1
    mask: int = FREE


class _Entered(NamedTuple):
    id: int  # of the request
    automaton: Automaton
    place: Place


class Following:
    """The grammars of a batch's rows, as the device sees them."""

    def __init__(self, rows: Rows, masking: Masking | None) -> None:
        self._batch, self._constraints = rows.batch, rows.constraints
        self._residents = None if masking is None else masking.residents
        slots = len(rows.batch.ids)
        self.obeys = np.zeros(slots, np.bool_)  # by row slot: has it a grammar
        self.ahead = np.zeros(slots, np.bool_)  # may it go on before its last token is seen
        self._entered: dict[int, _Entered | None] = {}  # by row slot; None where the host follows

    def forget(self) -> None:
        """All rows have left."""
        self._entered.clear()

    def admitted(self, row: int) -> None:
        """A row slot begins anew."""
        self._entered.pop(row, None)
        self.obeys[row] = self._constraints.is_obeyed(row)
        self.ahead[row] = not self.obeys[row]

    def draw(self, row: int, matcher: Matcher) -> DrawColumns:
        """For the next token of a row that obeys ``matcher``, which knows all tokens but unseen ones."""
        entered = self._enter(row, matcher)
        if entered is None or not isinstance(matcher, AutomatonMatcher):
            return DrawColumns(mask=self._constraints.mask_row(row))
        place = entered.place
        return DrawColumns(
            automaton=place.automaton,
            state=_AS_IT_IS if self._batch.unseen[row] else matcher.state,
            base=place.ending if self._constraints.may_end(row) else place.going_on,
        )

    def _enter(self, row: int, matcher: Matcher) -> _Entered | None:
        """Put a row's automaton on the device, when it first draws."""
        if row in self._entered or self._residents is None:
            return self._entered.get(row)
        entered: _Entered | None = None
        if isinstance(matcher, AutomatonMatcher):
            place = self._residents.enter(matcher.automaton, self._constraints.ends(row), self._in_use)
            if place is not None:
                entered = _Entered(self._batch.ids[row], matcher.automaton, place)
        self._entered[row] = entered
        self.ahead[row] = entered is not None
        return entered

    def _in_use(self) -> set[Automaton]:
        batch = self._batch
        return {
            entered.automaton
            for row, entered in self._entered.items()
            if entered is not None and batch.occupied[row] and batch.ids[row] == entered.id
        }
