"""Log-probabilities as SGLang's native API asks for them and shows them: (log-probability, token id, text or null).

Source: SGLang's GenerateReqInput and the ``meta_info`` of its answers. Knows nothing of requests beyond these fields.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from shared.protocol import Scores, Scoring
from shared.scores import TokenScores, each
from shared.tokenizer import Tokenizer
from tokenizer_svc.api_error import invalid
from tokenizer_svc.limits import Limits
from tokenizer_svc.sampling import Bounds

T = TypeVar("T")

Entry = tuple[float | None, int, str | None]
"""Log-probability, token id, text."""


class ScoreFields(msgspec.Struct, kw_only=True):
    """Each is one value for all prompts, or a list of one for each."""

    return_logprob: bool | list[bool | None] | None = None
    logprob_start_len: int | list[int | None] | None = None
    top_logprobs_num: int | list[int | None] | None = None
    token_ids_logprob: list[int | list[int] | None] | None = None
    return_text_in_logprobs: bool | list[bool | None] | None = None


class Wanted(NamedTuple):
    """What one prompt's answers say of log-probabilities."""

    start: int | None  # position of the first token of the prompt that is wanted; None: none of it
    top: int
    ids: tuple[int, ...] | None  # None: not asked for, which an empty list is
    with_text: bool

    def scoring(self, prompt_tokens: int) -> Scoring:
        """For the worker. Nothing precedes the token at 0, so that it has no score."""
        start = prompt_tokens if self.start is None else max(self.start, 1)
        return Scoring(start, self.top, self.ids or ())


def read_wanted(fields: ScoreFields, prompts: int, limits: Limits, *, is_batch: bool) -> list[Wanted | None]:
    """What is wanted of each prompt, None for nothing. Raises ApiError 400.

    As with SGLang the other fields only say more of ``return_logprob``; but where nothing at all asks for
    log-probabilities, those that would want some are refused rather than forgotten.
    """
    asked = _spread("return_logprob", fields.return_logprob, prompts)
    starts = _spread("logprob_start_len", fields.logprob_start_len, prompts)
    tops = _spread("top_logprobs_num", fields.top_logprobs_num, prompts)
    texts = _spread("return_text_in_logprobs", fields.return_text_in_logprobs, prompts)
    ids = _spread_ids(fields.token_ids_logprob, prompts, is_batch=is_batch)
    found: list[Wanted | None] = []
    for index in range(prompts):
        bounds = Bounds()
        at = f"[{index}]" if is_batch else ""
        start = bounds.integer("logprob_start_len", starts[index], -1, limits.max_part_tokens, -1)
        top = bounds.integer("top_logprobs_num", tops[index], 0, limits.max_native_logprobs, 0)
        these = ids[index]
        if these is not None:
            bounds.length(f"token_ids_logprob{at}", len(these), limits.max_logprob_ids, "ids")
        wanted = Wanted(None if start < 0 else start, top, None if these is None else tuple(these), bool(texts[index]))
        found.append(wanted if asked[index] else None)
    if not any(found):
        for name, values in (("top_logprobs_num", tops), ("token_ids_logprob", ids)):
            if any(values):
                raise invalid(f"{name} is for log-probabilities: set return_logprob to true", name)
    return found


def check_wanted(wanted: Wanted, prompt_tokens: int, vocab_size: int) -> None:
    """Holds what is wanted against the prompt and the model. Raises ApiError 400."""
    if (wanted.start or 0) > prompt_tokens:
        message = f"logprob_start_len is {wanted.start}, but the prompt has {prompt_tokens} tokens"
        raise invalid(message, "logprob_start_len")
    if any(not 0 <= id < vocab_size for id in wanted.ids or ()):
        message = f"token_ids_logprob holds token ids outside the vocabulary of {vocab_size} (0 is the first)"
        raise invalid(message, "token_ids_logprob")


class Shown(msgspec.Struct, frozen=True, omit_defaults=True):
    """The lists of ``meta_info``: of the prompt, and of the answer."""

    input_token_logprobs: Sequence[Entry] = ()
    output_token_logprobs: Sequence[Entry] = ()
    input_top_logprobs: Sequence[Sequence[Entry] | None] | None = None
    output_top_logprobs: Sequence[Sequence[Entry] | None] | None = None
    input_token_ids_logprobs: Sequence[Sequence[Entry] | None] | None = None
    output_token_ids_logprobs: Sequence[Sequence[Entry] | None] | None = None


class Lists:
    """Three lists with an entry for each token; the last two only where they are wanted."""

    def __init__(self, wanted: Wanted, text_of: Callable[[int], str]) -> None:
        self.tokens: list[Entry] = []
        self.top: list[list[Entry] | None] | None = [] if wanted.top else None
        self.asked: list[list[Entry] | None] | None = None if wanted.ids is None else []
        self._ids = wanted.ids or ()
        self._text_of = text_of if wanted.with_text else None

    def nothing(self, id: int) -> None:
        """A token that nothing precedes."""
        self.tokens.append(self._entry(None, id))
        if self.top is not None:
            self.top.append(None)
        if self.asked is not None:
            self.asked.append(None)

    def extend(self, ids: Sequence[int], scores: Scores | None) -> None:
        """Tokens and what is known of them, in order."""
        for id, score in zip(ids, each(scores), strict=False):
            self._append(id, score)

    def _append(self, id: int, score: TokenScores) -> None:
        self.tokens.append(self._entry(score.logprob, id))
        if self.top is not None:
            self.top.append([self._entry(logprob, other) for other, logprob in score.top])
        if self.asked is not None:
            pairs = zip(self._ids, score.asked, strict=False)
            self.asked.append([self._entry(logprob, other) for other, logprob in pairs])

    def _entry(self, logprob: float | None, id: int) -> Entry:
        return logprob, id, None if self._text_of is None else self._text_of(id)


def of_prompt(wanted: Wanted, ids: Sequence[int], scores: Scores | None, text_of: Callable[[int], str]) -> Lists:
    """The lists of a prompt of these token ids."""
    lists = Lists(wanted, text_of)
    if wanted.start is None:
        return lists
    if wanted.start == 0 and ids:
        lists.nothing(ids[0])
    lists.extend(ids[max(wanted.start, 1) :], scores)
    return lists


def text_of(tokenizer: Tokenizer, id: int) -> str:
    """The text of one token by itself: of half a character U+FFFD."""
    return tokenizer.token_bytes(id).decode(errors="replace")


def _spread(name: str, value: T | list[T | None] | None, prompts: int) -> list[T | None]:
    """One value for each prompt. Raises ApiError 400."""
    if not isinstance(value, list):
        return [value] * prompts
    if len(value) != prompts:
        raise invalid(f"{name} has {len(value)} entries for {prompts} prompts", name)
    return list(value)


def _spread_ids(
    value: list[int | list[int] | None] | None, prompts: int, *, is_batch: bool
) -> list[Sequence[int] | None]:
    name = "token_ids_logprob"
    if value is None:
        return [None] * prompts
    flat = [id for id in value if isinstance(id, int)]
    if len(flat) == len(value):  # as are none
        return [flat] * prompts
    if flat:
        raise invalid(f"{name} mixes ids and lists of ids: send one kind", name)
    lists = [None if isinstance(ids, int) else ids for ids in value]
    if len(lists) != prompts or not is_batch:
        raise invalid(f"{name} has {len(lists)} lists for {prompts} prompts", name)
    return list(lists)
