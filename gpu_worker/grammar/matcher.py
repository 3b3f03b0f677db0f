"""What the engine asks of a grammar, one matcher per row, and the kind that an automaton drives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from gpu_worker.grammar.automaton import Automaton, Part
from gpu_worker.grammar.lexicon import Lexicon
from gpu_worker.grammar.runs import canonical_run
from shared.grammar import DEAD, START
from shared.protocol import Jump

_REMEMBERED = 4096  # runs per automaton


class MaskRows(Protocol):
    """Where masks are: rows of bits, one per token, on the device."""

    def of_state(self, automaton: Automaton, state: int, ends: Sequence[int]) -> int:
        """The row of a state's legal tokens, with the tokens ``ends`` besides."""
        ...

    def sole(self, row: int) -> int | None:
        """The token of a row that has only one."""
        ...

    def scratch(self, slot: int) -> int:
        """The row that batch row ``slot`` may fill for one step's use."""
        ...

    def fill(self, row: int, compute: Callable[[int, int], object], forbidden: Sequence[int]) -> None:
        """Let ``compute(address, bytes)`` write a row's bits, then take ``forbidden`` out of it."""
        ...


class Matcher(Protocol):
    """The state of one row's grammar."""

    @property
    def accepting(self) -> bool:
        """May the text end here?"""
        ...

    @property
    def terminal(self) -> bool:
        """Must the text end here?"""
        ...

    @property
    def spent(self) -> bool:
        """Has the last part of a template used up its tokens?"""
        ...

    @property
    def exhausted(self) -> bool:
        """Was a limit reached, so that nobody knows what may come next?"""
        ...

    def advance(self, token: int) -> bool:
        """Take one token of text. False where the grammar does not allow it."""
        ...

    def forced(self, previous: int | None, masks: MaskRows) -> Sequence[int]:
        """Tokens that must come next, after ``previous``; they are not taken yet."""
        ...

    def mask(self, masks: MaskRows, ends: Sequence[int]) -> int:
        """The row of what may come next. ``ends`` are legal where the text may end."""
        ...


class CompiledGrammar(Protocol):
    """A grammar ready for use by any number of rows."""

    @property
    def nbytes(self) -> int:
        """Memory it takes, roughly."""
        ...

    def matcher(self, jump: Jump, slot: int) -> Matcher:
        """A new matcher, at the beginning, for the row at ``slot`` of the batch."""
        ...


class AutomatonGrammar:
    """An automaton over one lexicon, and the runs found in it so far."""

    def __init__(self, automaton: Automaton, lexicon: Lexicon) -> None:
        self.automaton = automaton
        self.lexicon = lexicon
        self._runs: dict[tuple[int, int | None], tuple[int, ...]] = {}

    @property
    def nbytes(self) -> int:
        return self.automaton.nbytes

    def matcher(self, jump: Jump, slot: int) -> AutomatonMatcher:
        """A new matcher at the start state; its masks are the same for all rows."""
        del slot
        return AutomatonMatcher(self, jump)

    def run(self, state: int, previous: int | None) -> tuple[int, ...]:
        """The canonical run, remembered."""
        if not self.automaton.must_go_on(state):
            return ()
        key = (state, previous)
        found = self._runs.get(key)
        if found is None:
            if len(self._runs) >= _REMEMBERED:
                self._runs.clear()
            found = self._runs[key] = canonical_run(self.automaton, self.lexicon, state, previous)
        return found


class AutomatonMatcher:
    """One row's place in an automaton."""

    exhausted = False

    def __init__(self, grammar: AutomatonGrammar, jump: Jump) -> None:
        self._grammar = grammar
        self.automaton = grammar.automaton
        self._spelling = grammar.lexicon.spelling
        self._jump = jump
        self.state = START
        self._part: Part | None = self.automaton.part(START)
        self._used = 0  # tokens of the part

    @property
    def accepting(self) -> bool:
        return self.automaton.is_accepting(self.state)

    @property
    def terminal(self) -> bool:
        return self.automaton.is_terminal(self.state)

    @property
    def spent(self) -> bool:
        part = self._part
        return part is not None and not part.following and 0 < part.budget <= self._used

    def advance(self, token: int) -> bool:
        data = self._spelling[token]
        state = self.automaton.walk(data, self.state) if data else DEAD
        if state == DEAD:
            return False
        self.state = state
        part = self.automaton.part(state)
        self._used = self._used + 1 if part is self._part else 1
        self._part = part
        return True

    def forced(self, previous: int | None, masks: MaskRows) -> Sequence[int]:
        if cut := self._cut():
            return cut
        match self._jump:
            case Jump.CANONICAL:
                return self._grammar.run(self.state, previous)
            case Jump.EXACT:
                return self._sole_run(masks)
            case Jump.OFF:
                return ()

    def mask(self, masks: MaskRows, ends: Sequence[int]) -> int:
        return masks.of_state(self.automaton, self.state, ends if self.accepting else ())

    def _sole_run(self, masks: MaskRows) -> list[int]:
        """Tokens for as long as a single one is legal and the text may not end.

        In a bounded part of a template one at a time: its tokens may be used up with any of them.
        """
        run: list[int] = []
        state = self.state
        while not self.automaton.is_accepting(state):
            token = masks.sole(masks.of_state(self.automaton, state, ()))
            if token is None or (run and self._is_bounded(state)):
                break
            run.append(token)
            state = self.automaton.walk(self._spelling[token], state)
        return run

    def _is_bounded(self, state: int) -> bool:
        part = self.automaton.part(state)
        return part is not None and part.budget > 0

    def _cut(self) -> Sequence[int]:
        """The fixed text after a part of a template that has used up its tokens, where the automaton admits it."""
        part = self._part
        if part is None or not part.following or not 0 < part.budget <= self._used:
            return ()
        after = self.automaton.walk(part.following, self.state)
        if after == DEAD or self.automaton.part(after) is part:
            return ()
        return self._grammar.lexicon.encode(part.following.decode()) or ()
