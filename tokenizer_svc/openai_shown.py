"""What every answer of OpenAI's API has: its identity, its usage, and the tokens that are shown beside its text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from shared import columns
from shared.protocol import Finish, Scores
from shared.tokenizer import Tokenizer
from tokenizer_svc.alignment import Alignment, Shown
from tokenizer_svc.announcements import Announcement
from tokenizer_svc.answers import Answer, Choice, Piece
from tokenizer_svc.api_error import ApiError, error_event
from tokenizer_svc.openai_bodies import Body, ChatChoice, ChunkChoice, TextChoice, Usage, usage_of
from tokenizer_svc.openai_scores import PromptLogprobs, TokenNames, Wanted, prompt_logprobs
from tokenizer_svc.rendering import Origin
from tokenizer_svc.sse import DONE, event

FINISH_REASONS = {Finish.STOP: "stop", Finish.LENGTH: "length", Finish.ABORT: "abort"}


class Showing(NamedTuple):
    """What a request wants to see of its answer besides the text."""

    tokenizer: Tokenizer
    fingerprint: str  # of what answers
    include_usage: bool = False
    continuous_usage: bool = False  # in every chunk
    scores: Wanted = Wanted()
    token_ids: bool = False
    tokens_as_ids: bool = False
    ignores_eos: bool = False  # an end-of-sequence token that stops is one that the client named
    echo: Sequence[str | None] | None = None  # the text of each prompt, None where it follows from its tokens
    service_tier: str | UnsetType = UNSET


encode = msgspec.json.Encoder().encode


class OpenAIAnswers:
    """What chats and completions have in common."""

    prefix: str
    chunk_object: str
    whole_object: str
    waiting = None

    def __init__(self, answer: Answer, origin: Origin, showing: Showing) -> None:
        self._answer = answer
        self._id = f"{self.prefix}{answer.id:016x}"
        self._origin = origin
        self._showing = showing
        self._names = TokenNames(showing.tokenizer.token_bytes, as_ids=showing.tokens_as_ids)
        self._alignments: dict[int, Alignment] = {}
        self._completion_tokens = [0] * len(answer.choices)  # in what was rendered so far

    @property
    def _reasoning_tokens(self) -> int:
        """Of the whole answer, as far as they are told apart."""
        return 0

    @property
    def _whole_usage(self) -> Usage:
        return usage_of(self._answer, self._reasoning_tokens)

    def failing(self, error: ApiError) -> bytes:
        """The end of a stream that went wrong."""
        return error_event(error)

    def closing(self) -> bytes:
        """The end of a stream that went well."""
        if not self._showing.include_usage:
            return DONE
        return event(encode(self._body(self.chunk_object, (), self._whole_usage))) + DONE

    def _chunk(self, choice: ChunkChoice | TextChoice, prompt_ids: Sequence[int] | UnsetType = UNSET) -> bytes:
        body = self._body(self.chunk_object, (choice,), self._usage())
        if prompt_ids is not UNSET:
            body = msgspec.structs.replace(body, prompt_token_ids=prompt_ids)
        return event(encode(body))

    def _body(
        self, object: str, choices: Sequence[ChunkChoice | TextChoice | ChatChoice], usage: Usage | UnsetType | None
    ) -> Body:
        origin, showing = self._origin, self._showing
        return Body(
            self._id,
            object,
            origin.created,
            origin.model,
            showing.fingerprint,
            choices,
            usage,
            showing.service_tier,
        )

    def _usage(self) -> Usage | UnsetType | None:
        """What a chunk says of it: nothing, that it will come, or how many tokens there are so far."""
        if not self._showing.continuous_usage:
            return None if self._showing.include_usage else UNSET
        prompt = sum({choice.prompt: choice.prompt_tokens for choice in self._answer.choices}.values())
        completion = sum(self._completion_tokens)
        return Usage(prompt, completion, prompt + completion)

    # --- tokens

    @property
    def _shows_tokens(self) -> bool:
        return self._showing.token_ids or self._showing.scores.answer is not None

    def _alignment(self, choice: Choice) -> Alignment:
        """The tokens of a choice that are yet to be shown."""
        found = self._alignments.get(choice.index)
        if found is None:
            found = self._alignments[choice.index] = alignment_of(choice, self._showing.tokenizer)
        return found

    def _take(self, piece: Piece) -> list[str]:
        """Note what a piece brings; returns its text, cut where tokens end if they are shown."""
        self._completion_tokens[piece.choice.index] = piece.completion_tokens
        if not self._shows_tokens:
            return [piece.text]
        alignment = self._alignment(piece.choice)
        alignment.push(piece.tokens, piece.scores)
        if piece.finish is not Finish.NONE:
            alignment.flush()
        return alignment.cut(piece.text)

    def _show(self, choice: Choice, text: str, held: int = 0) -> None:
        """More of a choice's text is about to be shown, but for ``held`` characters at the end of all so far."""
        if self._shows_tokens:
            self._alignment(choice).show(text, held)

    def _due(self, choice: Choice) -> list[Shown]:
        """The tokens to show with the text of a choice so far."""
        return self._alignment(choice).due() if self._shows_tokens else []

    def _rest(self, choice: Choice) -> list[Shown]:
        """The tokens to show at the end of a choice."""
        return self._alignment(choice).rest() if self._shows_tokens else []

    def _all(self, choice: Choice, tokens: Sequence[int], scores: Scores | None) -> list[Shown]:
        """All tokens of a choice."""
        if not self._shows_tokens:
            return []
        alignment = self._alignment(choice)
        alignment.push(tokens, scores)
        return alignment.rest()

    def _ids(self, tokens: Sequence[Shown]) -> Sequence[int] | UnsetType:
        return [token.id for token in tokens] if self._showing.token_ids else UNSET

    def _prompt_ids(self, choice: Choice) -> Sequence[int] | UnsetType:
        return prompt_ids(choice) if self._showing.token_ids else UNSET

    def _prompt_logprobs(self, choice: Choice) -> PromptLogprobs | UnsetType:
        wanted = self._showing.scores
        if wanted.prompt is None:
            return UNSET
        return prompt_logprobs(prompt_ids(choice), choice.prompt_scores, self._names, wanted)

    def _stop_reason(self, choice: Choice) -> str | int | None:
        """vLLM's: not for the model's own end."""
        own = not self._showing.ignores_eos and choice.matched in self._showing.tokenizer.eos_ids
        return None if own else choice.matched


def alignment_of(choice: Choice, tokenizer: Tokenizer) -> Alignment:
    """At the beginning of a choice."""
    track = _announced(choice).track
    return Alignment(tokenizer.stream(columns.ints(track.context), track.skip_special_tokens))


def _announced(choice: Choice) -> Announcement:
    if choice.request is None:
        raise LookupError("nobody knows how this choice was announced, by another release perhaps")
    return choice.request


def prompt_ids(choice: Choice) -> Sequence[int]:
    return columns.ints(_announced(choice).generate.input_ids)
