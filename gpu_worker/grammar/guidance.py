"""Grammars that no automaton holds, by llguidance: recursive schemas, Lark, any JSON.

Masks take 15 to 150 us a row on the processor. Compiling happens off the engine's thread.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import llguidance

from gpu_worker.grammar.matcher import MaskRows
from shared.protocol import Jump

_UNFIT = "doesn't satisfy the grammar"
"""What llguidance says of a token that the grammar does not allow; all its other errors are limits reached."""


class GuidanceGrammar:
    """A parsed grammar; every row starts from a copy."""

    def __init__(self, tokenizer: llguidance.LLTokenizer, grammar: str, eos_ids: Sequence[int]) -> None:
        """Raises ValueError where llguidance refuses the grammar."""
        self._eos_ids = eos_ids
        self._initial = llguidance.LLMatcher(tokenizer, grammar)
        if self._initial.is_error():
            raise ValueError(self._initial.get_error())
        self.nbytes = 20 * len(grammar) + 1_000_000  # a guess: the parser does not tell

    def matcher(self, jump: Jump, slot: int) -> GuidanceMatcher:
        """A new matcher at the beginning, which writes its masks into the scratch row of ``slot``."""
        return GuidanceMatcher(self._initial.deep_copy(), jump, slot, self._eos_ids)


class GuidanceMatcher:
    """One row's parser."""

    spent = False

    def __init__(self, parser: llguidance.LLMatcher, jump: Jump, slot: int, eos_ids: Sequence[int]) -> None:
        self._parser = parser
        self._jump = jump
        self._slot = slot
        self._eos_ids = eos_ids

    @property
    def accepting(self) -> bool:
        return self._parser.is_accepting()

    @property
    def terminal(self) -> bool:
        return self._parser.is_stopped() and not self._parser.is_error()

    @property
    def exhausted(self) -> bool:
        return self._parser.is_error() and _UNFIT not in self._parser.get_error()

    def advance(self, token: int) -> bool:
        return self._parser.consume_token(token)

    def forced(self, previous: int | None, masks: MaskRows) -> Sequence[int]:
        """The parser knows what came before; ``previous`` adds nothing."""
        del previous
        if self._jump is Jump.OFF or self._parser.is_stopped():
            return ()
        if self._jump is Jump.CANONICAL:
            return self._parser.compute_ff_tokens()
        ahead = self._parser.deep_copy()
        run: list[int] = []
        row = masks.scratch(self._slot)
        while not ahead.is_stopped() and not ahead.is_accepting():
            masks.fill(row, ahead.unsafe_compute_mask_ptr, ())
            token = masks.sole(row)
            if token is None or not ahead.consume_token(token):
                break
            run.append(token)
        return run

    def mask(self, masks: MaskRows, ends: Sequence[int]) -> int:
        row = masks.scratch(self._slot)
        if self._parser.is_error():  # a limit was reached: nothing is legal, which ends the row with an error
            masks.fill(row, lambda address, size: ctypes.memset(address, 0, size), ())
            return row
        forbidden = () if len(ends) == len(self._eos_ids) else set(self._eos_ids).difference(ends)
        masks.fill(row, self._parser.unsafe_compute_mask_ptr, tuple(forbidden))
        return row
