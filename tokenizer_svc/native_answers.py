"""Answers of the native API, /generate, as SGLang has them: in a stream every event has all text and ids so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from shared.protocol import Finish, Scores
from tokenizer_svc.answers import Answer, Choice, Piece
from tokenizer_svc.api_error import ApiError, error_event
from tokenizer_svc.sse import DONE, event
from tokenizer_svc.values import Values


class FinishReason(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a sequence ended, as SGLang says it."""

    type: str
    matched: str | int | None = None
    length: int | None = None


class MetaInfo(msgspec.Struct, frozen=True):
    """What is known of a sequence besides its text."""

    id: str
    finish_reason: FinishReason | None
    prompt_tokens: int
    completion_tokens: int
    forced_tokens: int  # of these, that a grammar left no choice about
    cached_tokens: int
    e2e_latency: float  # seconds since the request arrived


class Output(msgspec.Struct, frozen=True, omit_defaults=True):
    """One sequence, so far or as a whole. ``index`` is there in streams of several."""

    text: str
    output_ids: Sequence[int]
    meta_info: MetaInfo
    values: dict[str, str] | None = None  # of a template's generated parts
    index: int | None = None


_encode = msgspec.json.Encoder().encode


class NativeAnswers:
    """Answers of /generate."""

    prefix = "gen-"

    def __init__(
        self,
        answer: Answer,
        elapsed: Callable[[], float],
        *,
        is_single: bool,
        open_values: Callable[[], Values] | None = None,
    ) -> None:
        """``elapsed``: seconds since the request's arrival. ``open_values``: the values of a template's
        parts in an answer, asked for when its first text is there.
        """
        self._answer = answer
        self._elapsed = elapsed
        self._is_single = is_single
        self._open_values = open_values
        self._values: dict[int, Values] = {}
        self._texts = [""] * len(answer.choices)
        self._tokens: list[list[int]] = [[] for _ in answer.choices]

    def opening(self) -> bytes:
        """A stream starts with text."""
        return b""

    def piece(self, piece: Piece) -> bytes:
        """One event with everything so far: none where there is no new text."""
        index = piece.choice.index
        self._texts[index] += piece.text
        self._tokens[index] += piece.tokens
        if not piece.text and piece.finish is Finish.NONE:
            return b""
        meta = self._meta(piece.choice, piece.completion_tokens, piece.forced_tokens, piece.finish)
        values = self._valued(index, piece.text, is_over=piece.finish is not Finish.NONE)
        output = Output(self._texts[index], self._tokens[index], meta, values, None if self._is_single else index)
        return event(_encode(output))

    def closing(self) -> bytes:
        """The end of a stream that went well."""
        return DONE

    def failing(self, error: ApiError) -> bytes:
        """The end of a stream that went wrong."""
        return error_event(error)

    def whole(self, texts: Sequence[str], tokens: Sequence[Sequence[int]], scores: Sequence[Scores | None]) -> bytes:
        """The answer of a request that is no stream."""
        del scores
        outputs = [
            Output(
                text,
                ids,
                self._meta(choice, choice.completion_tokens, choice.forced_tokens, choice.finish),
                self._valued(choice.index, text, is_over=True),
            )
            for choice, text, ids in zip(self._answer.choices, texts, tokens, strict=True)
        ]
        return _encode(outputs[0] if self._is_single else outputs)

    def _valued(self, index: int, text: str, *, is_over: bool) -> dict[str, str] | None:
        """The values in all text of a choice so far; None where there is no template."""
        if self._open_values is None:
            return None
        values = self._values.get(index)
        if values is None:
            values = self._values[index] = self._open_values()
        values.push(text)
        return values.finish() if is_over else values.complete

    def _meta(self, choice: Choice, completion_tokens: int, forced_tokens: int, finish: Finish) -> MetaInfo:
        return MetaInfo(
            id=f"{self.prefix}{choice.id:016x}",
            finish_reason=_finish_reason(choice, finish),
            prompt_tokens=choice.prompt_tokens,
            completion_tokens=completion_tokens,
            forced_tokens=forced_tokens,
            cached_tokens=choice.cached_tokens,
            e2e_latency=self._elapsed(),
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
            return FinishReason("abort")
