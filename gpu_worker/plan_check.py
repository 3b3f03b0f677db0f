"""Whether a plan stays within the model and the KV pool: compiled kernels follow its numbers without looking.

What a plan may do to the rows is batch.py's to judge.
"""

from __future__ import annotations

from gpu_worker.batch import PlanError
from shared import columns
from shared.protocol import Admit, ModelCard, Plan, Pooling


def check_plan(plan: Plan, card: ModelCard) -> None:
    """Raises PlanError naming what lies outside."""
    _below(plan.grant_pages, card.num_pages, "a page")
    for admit in plan.admits:
        _check_admit(admit, card)


def _check_admit(admit: Admit, card: ModelCard) -> None:
    where = f"request {admit.id:016x}"
    length = len(admit.input_ids) // 4
    held = len(admit.pages) // 4 * card.page_size
    if not admit.prompt_len <= length <= card.context_length or admit.cached_len > min(length, held):
        raise PlanError(
            f"{where}: {admit.prompt_len} tokens of prompt in {length}, {admit.cached_len} cached in {held} slots,"
            f" context {card.context_length}"
        )
    reusable = _reusable(admit, length)
    if admit.cached_len > reusable:
        raise PlanError(f"{where}: {admit.cached_len} tokens cached, of which at most {reusable} need not be computed")
    _below(admit.input_ids, card.vocab_size, f"{where}: a token")
    _below(admit.pages, card.num_pages, f"{where}: a page")


def _below(column: bytes, bound: int, what: str) -> None:
    values = columns.as_int32(column)
    if len(values) and not 0 <= values.min() <= values.max() < bound:
        raise PlanError(f"{what} is {values.min()} to {values.max()}, outside 0 to {bound - 1}")


def _reusable(admit: Admit, length: int) -> int:
    """Leading tokens whose logits and hidden states nobody wants."""
    sampling = admit.sampling
    least = length
    if sampling.scoring is not None:
        least = min(least, admit.unscored - 1)
    if sampling.pooling is not None:
        least = min(least, admit.prompt_len - 1 if sampling.pooling is Pooling.LAST else 0)
    return least
