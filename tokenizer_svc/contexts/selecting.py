"""A part that is the likeliest of some texts: what is scored, and what the scores say.

Every choice is the text after what is there, tokenised as if both were one; scored are the tokens from the first on
that would not be there without it. Scores are the model's own log-probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import UNSET

from shared.choosing import choose
from shared.protocol import Sampling, Scores, Scoring
from shared.scores import each
from tokenizer_svc.api_error import internal, invalid
from tokenizer_svc.computing import Computed
from tokenizer_svc.contexts.request import SelectPart
from tokenizer_svc.contexts.shapes import Selected
from tokenizer_svc.contexts.tokens import Written
from tokenizer_svc.draft import Draft
from tokenizer_svc.engine import Engine
from tokenizer_svc.prompts import LengthNames, answer_length


class Selection(NamedTuple):
    """What is to be scored for a part."""

    written: list[Written]  # by choice: the context as it goes on with it
    firsts: list[int]  # by choice: the first token that is its own
    alone: list[tuple[int, ...]]  # by choice: its tokens, where they are scored by themselves, too


def read_selection(engine: Engine, part: SelectPart, path: str, before: Written) -> Selection:
    """Raises ApiError 400."""
    written = [before.with_text(choice, engine.tokenizer) for choice in part.choices]
    firsts = [_common(before.ids, each.ids) for each in written]
    for index, (whole, first) in enumerate(zip(written, firsts, strict=True)):
        where = f"{path}.choices[{index}]"
        if first == len(whole.ids):
            raise invalid(f"{where} adds no token to what is there: it cannot be scored", where)
        if first == 0:
            raise invalid(f"{path} has nothing before it that its choices could follow: put some text there", path)
        answer_length(engine.ready_card(), len(whole.ids), 0, None, LengthNames(where, where), least=0)
    alone = [whole.ids[first:] for whole, first in zip(written, firsts, strict=True)]
    return Selection(written, firsts, alone if part.method == "unconditional_likelihood_normalized" else [])


def drafts_of(selection: Selection, like: Draft) -> list[Draft]:
    """One sequence for each choice, then those for choices alone; in all else ``like`` another."""
    drafts = [
        like._replace(input_ids=whole.ids, sampling=_scored(first))
        for whole, first in zip(selection.written, selection.firsts, strict=True)
    ]
    drafts += [like._replace(input_ids=ids, sampling=_scored(1)) for ids in selection.alone if len(ids) > 1]
    return [draft._replace(prompt=index) for index, draft in enumerate(drafts)]


def _scored(first: int) -> Sampling:
    return Sampling(max_tokens=0, temperature=0.0, scoring=Scoring(first))


def result_of(
    part: SelectPart, index: int, before: Written, selection: Selection, computed: Sequence[Computed]
) -> Selected:
    """What a client is told of a part, the ``index``-th of its request."""
    count = len(part.choices)
    conditional = [
        _logprobs(one.prompt_scores, len(whole.ids) - first)
        for one, whole, first in zip(computed[:count], selection.written, selection.firsts, strict=True)
    ]
    rest = iter(computed[count:])
    unconditional = [
        [0.0, *(_logprobs(next(rest).prompt_scores, len(ids) - 1) if len(ids) > 1 else [])] for ids in selection.alone
    ]
    chosen = choose(part.method, conditional, unconditional)
    return Selected(
        part=index,
        name=part.name,
        text=part.choices[chosen.best],
        index=chosen.best,
        scores=chosen.scores,
        logprobs=conditional,
        tokens=[whole.ids[first:] for whole, first in zip(selection.written, selection.firsts, strict=True)],
        unconditional=unconditional if selection.alone else UNSET,
        prompt_tokens=len(before.ids),
    )


def _logprobs(scores: Scores | None, count: int) -> list[float]:
    found = [score.logprob for score in each(scores)]
    if len(found) != count:
        raise internal("a score was lost inside the server: send the request again")
    return found


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens both begin with."""
    for at, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return at
    return min(len(first), len(second))
