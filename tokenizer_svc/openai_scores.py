"""Log-probabilities in the shapes of OpenAI's two APIs and of vLLM: which of them are wanted, and how they are shown.

Sources: OpenAI's API reference for ``logprobs`` of chats and completions; vLLM's for ``prompt_logprobs``,
``return_tokens_as_token_ids`` and ``logprob_token_ids``. Knows nothing of requests or streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from shared.protocol import Scores, Scoring
from shared.scores import TokenScores, each
from tokenizer_svc.alignment import Shown

_LEAST = -9999.0  # as other servers write what JSON cannot: a token that cannot come


class Wanted(NamedTuple):
    """Which log-probabilities a request wants. The numbers: of how many of the likeliest tokens besides."""

    answer: int | None = None  # of the tokens of the answer; None: of none
    prompt: int | None = None  # of the tokens of the prompt, in a list of their own
    echo: bool = False  # those of the prompt among those of the answer
    ids: tuple[int, ...] = ()  # with the answer's, instead of the likeliest

    def scoring(self, prompt_tokens: int) -> Scoring | None:
        """What the worker is asked for."""
        if self.answer is None and self.prompt is None:
            return None
        likeliest = 0 if self.ids else self.answer or 0
        whole = self.prompt is not None or self.echo
        return Scoring(1 if whole else prompt_tokens, max(likeliest, self.prompt or 0), self.ids)


class TokenNames:
    """What tokens are called."""

    def __init__(self, spell: Callable[[int], bytes], *, as_ids: bool = False) -> None:
        """``spell``: the bytes of a token. ``as_ids``: every one has a name of its own, such as ``token_id:7``."""
        self._spell = spell
        self._as_ids = as_ids

    def name(self, id: int) -> str:
        """Its text; a byte that is no character becomes U+FFFD."""
        return f"token_id:{id}" if self._as_ids else self.text(id)

    def text(self, id: int) -> str:
        return self._spell(id).decode("utf-8", "replace")

    def bytes(self, id: int) -> list[int]:
        return list(self._spell(id))


# --- chats


class TopLogprob(Struct, frozen=True):
    """One of the likeliest tokens at a position."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Struct, frozen=True):
    """One token of an answer."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Struct, frozen=True):
    """The log-probabilities of a choice, or of a chunk of it."""

    content: list[TokenLogprob]
    refusal: None = None


def chat_logprobs(tokens: Sequence[Shown], names: TokenNames, wanted: Wanted) -> ChatLogprobs | None:
    """Of these tokens; None where there are none, or none are wanted."""
    if wanted.answer is None or not tokens:
        return None
    return ChatLogprobs([_token(shown, names, wanted) for shown in tokens])


def _token(shown: Shown, names: TokenNames, wanted: Wanted) -> TokenLogprob:
    top = [TopLogprob(names.name(id), value, names.bytes(id)) for id, value in _besides(shown.score, wanted)]
    own = _LEAST if shown.score is None else _finite(shown.score.logprob)
    return TokenLogprob(names.name(shown.id), own, names.bytes(shown.id), top)


# --- completions


class TextLogprobs(Struct, frozen=True):
    """The log-probabilities of a choice, or of a chunk of it: four lists, one entry for each token."""

    text_offset: list[int]
    token_logprobs: list[float | None]
    tokens: list[str]
    top_logprobs: list[dict[str, float] | None]


def text_logprobs(tokens: Sequence[Shown], names: TokenNames, wanted: Wanted) -> TextLogprobs | None:
    """Of these tokens; None where there are none, or none are wanted. A token without a score has null."""
    if wanted.answer is None or not tokens:
        return None
    return TextLogprobs(
        [shown.offset for shown in tokens],
        [None if shown.score is None else _finite(shown.score.logprob) for shown in tokens],
        [names.name(shown.id) for shown in tokens],
        [_by_name(shown, names, wanted) for shown in tokens],
    )


def _by_name(shown: Shown, names: TokenNames, wanted: Wanted) -> dict[str, float] | None:
    """The likeliest tokens and the token itself. Of several with one name the likeliest counts."""
    if shown.score is None:
        return None
    found: dict[str, float] = {}
    for id, value in (*_besides(shown.score, wanted), (shown.id, _finite(shown.score.logprob))):
        found.setdefault(names.name(id), value)
    return found


# --- prompts


class PromptLogprob(Struct, frozen=True):
    """A token at one position of a prompt."""

    logprob: float
    rank: int
    decoded_token: str


PromptLogprobs = Sequence[Mapping[int, PromptLogprob] | None]
"""By position; none for the first token, which nothing precedes."""


def prompt_logprobs(ids: Sequence[int], found: Scores | None, names: TokenNames, wanted: Wanted) -> PromptLogprobs:
    """Of every position of a prompt: the token there and the likeliest, by token id."""
    scored = {score.position: score for score in each(found)}
    return [_at(id, scored.get(position), names, wanted.prompt or 0) for position, id in enumerate(ids)]


def _at(id: int, score: TokenScores | None, names: TokenNames, top: int) -> dict[int, PromptLogprob] | None:
    if score is None:
        return None
    found = {id: PromptLogprob(_finite(score.logprob), score.rank, names.name(id))}
    for rank, (other, value) in enumerate(score.top[:top], start=1):
        found.setdefault(other, PromptLogprob(_finite(value), rank, names.name(other)))
    return found


def _besides(score: TokenScores | None, wanted: Wanted) -> Iterable[tuple[int, float]]:
    """Other tokens at a position that are wanted, likeliest first."""
    if score is None:
        return ()
    pairs: Iterable[tuple[int, float]] = score.top[: wanted.answer]
    if wanted.ids:
        pairs = sorted(zip(wanted.ids, score.asked, strict=True), key=lambda pair: -pair[1])
    return [(id, _finite(value)) for id, value in pairs]


def _finite(value: float) -> float:
    return max(value, _LEAST)
