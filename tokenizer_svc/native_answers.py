"""Answers of the native API, /generate, as SGLang has them: in a stream every event has all text and ids so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from shared import columns
from shared.protocol import Finish, Scores
from tokenizer_svc.answers import Answer, Choice, Piece
from tokenizer_svc.api_error import ApiError, error_event
from tokenizer_svc.native_scores import Entry, Lists, Wanted, of_prompt
from tokenizer_svc.sse import DONE, event
from tokenizer_svc.times import Split
from tokenizer_svc.values import Values


class FinishReason(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a sequence ended, as SGLang says it."""

    type: str
    matched: str | int | None = None
    length: int | None = None
    message: str | None = None


_Nested = Sequence[Sequence[Entry] | None]


class MetaInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a sequence besides its text. Log-probabilities are there where they were asked for."""

    id: str
    finish_reason: FinishReason | None
    prompt_tokens: int
    completion_tokens: int
    forced_tokens: int  # of these, that a grammar left no choice about
    cached_tokens: int
    e2e_latency: float  # seconds since the request arrived
    latency: Split | None = None  # the same by process, at the end
    queue_time: float | None = None  # seconds, as SGLang calls that of the scheduler
    input_token_logprobs: Sequence[Entry] | None = None
    output_token_logprobs: Sequence[Entry] | None = None
    input_top_logprobs: _Nested | None = None
    output_top_logprobs: _Nested | None = None
    input_token_ids_logprobs: _Nested | None = None
    output_token_ids_logprobs: _Nested | None = None


class Output(msgspec.Struct, frozen=True, omit_defaults=True):
    """One sequence, so far or as a whole. ``index`` is there in streams of several."""

    text: str
    output_ids: Sequence[int]
    meta_info: MetaInfo
    values: dict[str, str] | None = None  # of a template's generated parts
    index: int | None = None


class Shape(NamedTuple):
    """What a request says of the shape of its answer."""

    is_single: bool  # one object, not a list of them
    is_incremental: bool  # events have what is new, not all so far
    names: Sequence[str]  # the client's own ids by sequence; none where it gave none
    wanted: Sequence[Wanted | None]  # log-probabilities, by prompt
    text_of: Callable[[int], str]  # of a token
    open_values: Callable[[], Values] | None  # the values of a template's parts, asked for when the first text is there


class _Said:
    """What was said of a sequence in a stream."""

    def __init__(self) -> None:
        self.text = ""
        self.tokens: list[int] = []
        self.prompt: Lists | None = None
        self.scores: Lists | None = None


_encode = msgspec.json.Encoder().encode


class NativeAnswers:
    """Answers of /generate."""

    prefix = "gen-"
    waiting = None

    def __init__(self, answer: Answer, elapsed: Callable[[], float], shape: Shape) -> None:
        """``elapsed``: seconds since the request's arrival."""
        self._answer = answer
        self._elapsed = elapsed
        self._shape = shape
        self._values: dict[int, Values] = {}
        self._said = [_Said() for _ in answer.choices]

    def opening(self) -> bytes:
        """A stream starts with text."""
        return b""

    def piece(self, piece: Piece) -> bytes:
        """One event: none where there is no new text, which comes with what follows."""
        choice, is_over = piece.choice, piece.finish is not Finish.NONE
        said = self._said[choice.index]
        said.text += piece.text
        said.tokens += piece.tokens
        wanted = self._shape.wanted[choice.prompt]
        if wanted is not None:
            if said.prompt is None or said.scores is None:
                said.prompt, said.scores = self._of_prompt(choice, wanted), Lists(wanted, self._shape.text_of)
            said.scores.extend(piece.tokens, piece.scores)
        if not piece.text and not is_over:
            return b""
        values = self._valued(choice.index, piece.text, is_over=is_over)
        meta = self._meta(choice, piece.completion_tokens, piece.forced_tokens, piece.finish, said)
        index = None if self._shape.is_single else choice.index
        output = event(_encode(Output(said.text, said.tokens, meta, values, index)))
        if self._shape.is_incremental:
            self._said[choice.index] = rest = _Said()
            if wanted is not None:
                rest.prompt = Lists(wanted, self._shape.text_of)
                rest.scores = Lists(wanted, self._shape.text_of)
        return output

    def closing(self) -> bytes:
        """The end of a stream that went well."""
        return DONE

    def failing(self, error: ApiError) -> bytes:
        """The end of a stream that went wrong."""
        return error_event(error)

    def whole(self, texts: Sequence[str], tokens: Sequence[Sequence[int]], scores: Sequence[Scores | None]) -> bytes:
        """The answer of a request that is no stream."""
        outputs: list[Output] = []
        for choice, text, ids, known in zip(self._answer.choices, texts, tokens, scores, strict=True):
            said = _Said()
            if (wanted := self._shape.wanted[choice.prompt]) is not None:
                said.prompt, said.scores = self._of_prompt(choice, wanted), Lists(wanted, self._shape.text_of)
                said.scores.extend(ids, known)
            meta = self._meta(choice, choice.completion_tokens, choice.forced_tokens, choice.finish, said)
            outputs.append(Output(text, ids, meta, self._valued(choice.index, text, is_over=True)))
        return _encode(outputs[0] if self._shape.is_single else outputs)

    def _of_prompt(self, choice: Choice, wanted: Wanted) -> Lists:
        ids = columns.ints(choice.request.generate.input_ids) if choice.request is not None else ()
        return of_prompt(wanted, ids, choice.prompt_scores, self._shape.text_of)

    def _valued(self, index: int, text: str, *, is_over: bool) -> dict[str, str] | None:
        """The values in all text of a choice so far; None where there is no template."""
        if self._shape.open_values is None:
            return None
        values = self._values.get(index)
        if values is None:
            values = self._values[index] = self._shape.open_values()
        values.push(text)
        return values.finish() if is_over else values.complete

    def _meta(
        self, choice: Choice, completion_tokens: int, forced_tokens: int, finish: Finish, said: _Said
    ) -> MetaInfo:
        elapsed, names = self._elapsed(), self._shape.names
        split = choice.times.split(elapsed) if finish is not Finish.NONE else None
        prompt, scores = said.prompt, said.scores
        return MetaInfo(
            id=names[choice.index] if names else f"{self.prefix}{choice.id:016x}",
            finish_reason=_finish_reason(choice, finish),
            prompt_tokens=choice.prompt_tokens,
            completion_tokens=completion_tokens,
            forced_tokens=forced_tokens,
            cached_tokens=choice.cached_tokens,
            e2e_latency=elapsed,
            latency=split,
            queue_time=None if split is None else split.scheduler,
            input_token_logprobs=None if prompt is None else prompt.tokens,
            output_token_logprobs=None if scores is None else scores.tokens,
            input_top_logprobs=None if prompt is None else prompt.top,
            output_top_logprobs=None if scores is None else scores.top,
            input_token_ids_logprobs=None if prompt is None else prompt.asked,
            output_token_ids_logprobs=None if scores is None else scores.asked,
        )


def _finish_reason(choice: Choice, finish: Finish) -> FinishReason | None:
    match finish:
        case Finish.NONE:
            return None
        case Finish.STOP:
            return FinishReason("stop", matched=choice.matched)
        case Finish.LENGTH:
            return FinishReason("length", length=choice.completion_tokens)
        case Finish.ABORT:
            return FinishReason("abort", message=str(choice.matched or "the request was aborted"))
