"""The ids that clients of the native API give their sequences, as SGLang's ``rid``. Knows nothing of our own ids."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizer_svc.api_error import invalid
from tokenizer_svc.limits import Limits
from tokenizer_svc.sampling import Bounds

Names = tuple[str, ...]
"""The id of one sequence, and what else it may be aborted by: the rid that its client sent for several."""


def read_names(rid: str | list[str] | None, counts: Sequence[int], limits: Limits, *, is_batch: bool) -> list[Names]:
    """Names by sequence, for prompts with so many answers each; none without a rid. Raises ApiError 400.

    One rid for a batch is the beginning of as many: ``rid_0``, ``rid_1``, …; and so is that of a prompt with several
    answers.
    """
    if rid is None:
        return []
    if isinstance(rid, list) and not is_batch:
        raise invalid("rid is a list, but there is one prompt: send one id", "rid")
    if isinstance(rid, list) and len(rid) != len(counts):
        raise invalid(f"rid has {len(rid)} entries for {len(counts)} prompts", "rid")
    given = rid if isinstance(rid, list) else [rid]
    for index, name in enumerate(given):
        path = f"rid[{index}]" if isinstance(rid, list) else "rid"
        if not Bounds().label(path, name, limits):
            raise invalid(f"{path} is empty: leave it out, and an id is made", path)
    if len(set(given)) < len(given):
        raise invalid("rid names two prompts alike: ids must be unique", "rid")
    prompts = given if isinstance(rid, list) else [f"{rid}_{i}" for i in range(len(counts))] if is_batch else given
    found: list[Names] = []
    for index, (prompt, count) in enumerate(zip(prompts, counts, strict=True)):
        sent = given[index if isinstance(rid, list) else 0]
        names = [prompt] if count == 1 else [f"{prompt}_{i}" for i in range(count)]
        found += [tuple(dict.fromkeys((name, prompt, sent))) for name in names]
    return found
