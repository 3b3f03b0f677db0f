"""Answers of /v1/responses: the response as of now, or the events of a stream, numbered from 0.

A stream is: created (and queued, in the background), in_progress, the events of every item (output.py), then
completed, incomplete or failed. A response that was cancelled ends in incomplete, with that status: OpenAI has no event
of its own for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from shared.protocol import Finish, Scores
from shared.tokenizer import Tokenizer
from tokenizer_svc.alignment import Alignment, Shown, overlapping
from tokenizer_svc.answers import Answer, Piece
from tokenizer_svc.api_error import ApiError
from tokenizer_svc.openai_shown import alignment_of
from tokenizer_svc.parts import Content, Part
from tokenizer_svc.reading import AnswerReader, call_id, cut
from tokenizer_svc.responses_api.errors import of_chat
from tokenizer_svc.responses_api.output import Output
from tokenizer_svc.responses_api.request import ResponsesRequest
from tokenizer_svc.responses_api.shapes import (
    IncompleteDetails,
    InputTokensDetails,
    Response,
    ResponseError,
    ResponseEvent,
    ResponseTokensDetails,
    ResponseUsage,
    TextLogprob,
    TopLogprob,
)
from tokenizer_svc.responses_api.tools import shown_tools
from tokenizer_svc.sse import event

_encode = msgspec.json.Encoder().encode
_RATE_LIMITED, _SERVER = 429, 500


class ResponseOrigin(NamedTuple):
    """What a response says of where it comes from."""

    model: str
    created: int
    elapsed: Callable[[], float]
    tokenizer: Tokenizer


class ResponseAnswers:
    """The one answer to a request."""

    prefix = "resp_"

    def __init__(self, answer: Answer, reader: AnswerReader, request: ResponsesRequest, origin: ResponseOrigin) -> None:
        self._choice = answer.choices[0]
        self._reader = reader
        self._request = request
        self._origin = origin
        self._id = f"{answer.id:016x}"
        self._number = -1  # of the last event
        self._completion_tokens = 0
        self._error: ResponseError | None = None
        choice = self._choice
        self._output = Output(
            self._id,
            self._tell,
            lambda call: call_id(choice, call),
            summarises=request.summarises,
            encrypts=request.encrypts,
        )

    # --- as a stream

    @property
    def waiting(self) -> Callable[[], bytes] | None:
        """In the background a response is queued until it starts, and its stream says so."""
        return self._queued if self._request.background else None

    def _queued(self) -> bytes:
        return _events([self._state(kind, "queued") for kind in ("response.created", "response.queued")])

    def opening(self) -> bytes:
        """The first events of a stream, or those after it was queued."""
        kinds = ["response.in_progress"] if self._request.background else ["response.created", "response.in_progress"]
        return _events([self._state(kind) for kind in kinds])

    def piece(self, piece: Piece) -> bytes:
        """The events for one piece."""
        return _events(self._push(piece))

    def closing(self) -> bytes:
        """The last event of a stream that went well."""
        is_complete = self.status == "completed"
        return _events([self._state("response.completed" if is_complete else "response.incomplete")])

    def failing(self, error: ApiError) -> bytes:
        """The last events of a stream that went wrong."""
        error = of_chat(error)
        self.fail(error)
        body = error.body
        told = self._tell("error", code=body.code, message=body.message, param=body.param)
        return _events([told, self._state("response.failed")])

    # --- as it is

    def whole(self, texts: Sequence[str], tokens: Sequence[Sequence[int]], scores: Sequence[Scores | None]) -> bytes:
        """The response of a request that is no stream."""
        choice = self._choice
        self._push(
            Piece(choice, texts[0], tokens[0], choice.finish, choice.completion_tokens, choice.forced_tokens, scores[0])
        )
        return _encode(self.response())

    def fail(self, error: ApiError) -> None:
        """The response failed."""
        code = "rate_limit_exceeded" if error.status == _RATE_LIMITED else "invalid_prompt"
        self._error = ResponseError("server_error" if error.status >= _SERVER else code, error.body.message)

    @property
    def status(self) -> str:
        if self._error is not None:
            return "failed"
        match self._choice.finish:
            case Finish.NONE:
                return "in_progress"
            case Finish.ABORT:
                return "cancelled"
            case Finish.STOP if self._reader.finish_reason(self._choice) != "length":
                return "completed"
            case _:
                return "incomplete"

    def response(self, status: str | None = None) -> Response:
        """The response as of now. ``status``: where it is another than can be seen from the answer."""
        request, status = self._request, status or self.status
        is_incomplete = status == "incomplete"
        return Response(
            id=f"{self.prefix}{self._id}",
            created_at=self._origin.created,
            status=status,
            background=bool(request.background),
            completed_at=self._origin.created + int(self._origin.elapsed()) if status == "completed" else None,
            error=self._error,
            incomplete_details=IncompleteDetails("max_output_tokens") if is_incomplete else None,
            instructions=request.instructions,
            max_output_tokens=request.max_output_tokens,
            max_tool_calls=request.max_tool_calls,
            model=self._origin.model,
            output=self._output.items,
            parallel_tool_calls=request.parallel_tool_calls is not False,
            previous_response_id=request.previous_response_id,
            prompt_cache_key=request.prompt_cache_key,
            reasoning=_reasoning(request),
            safety_identifier=request.safety_identifier,
            store=request.is_stored,
            temperature=1.0 if request.temperature is None else request.temperature,
            text=_text(request),
            tool_choice="auto" if request.tool_choice is None else request.tool_choice,
            tools=shown_tools(request.tools),
            top_logprobs=request.top_logprobs or 0,
            top_p=1.0 if request.top_p is None else request.top_p,
            truncation=request.truncation or "disabled",
            usage=None if status in ("queued", "in_progress") else self._usage(),
            user=request.user,
            metadata=request.metadata or {},
        )

    # --- inside

    def _push(self, piece: Piece) -> list[ResponseEvent]:
        self._completion_tokens = piece.completion_tokens
        is_over = piece.finish is not Finish.NONE
        tokens = self._alignment
        texts = [piece.text]
        if tokens is not None:
            tokens.push(piece.tokens, piece.scores)
            if is_over:
                tokens.flush()
            texts = tokens.cut(piece.text)
        events: list[ResponseEvent] = []
        for each in cut(piece, texts):
            parts = self._reader.push(self._choice, each.text, each.tokens, each.finish)
            events += self._output.push(parts, self._logprobs(self._due(each.text, parts)))
        if is_over:
            rest = [] if tokens is None else tokens.rest()
            events += self._output.finish(is_cut=self.status != "completed", logprobs=self._logprobs(rest))
        return events

    @cached_property
    def _alignment(self) -> Alignment | None:
        """The tokens that are yet to be shown, where any are."""
        return alignment_of(self._choice, self._origin.tokenizer) if self._request.wants_logprobs else None

    def _due(self, text: str, parts: Sequence[Part]) -> Sequence[Shown]:
        """The tokens of the content among the next parts: those of reasoning, calls and marks are shown nowhere."""
        if self._alignment is None:
            return ()
        self._alignment.show(text, self._reader.held(self._choice))
        due, end = self._alignment.due(), self._alignment.shown
        content = sum(len(part.text) for part in parts if isinstance(part, Content))
        return overlapping(due, end - content, end) if content else ()

    def _logprobs(self, tokens: Sequence[Shown]) -> list[TextLogprob]:
        return [
            TextLogprob(
                *self._spelt(token.id),
                token.score.logprob,
                tuple(TopLogprob(*self._spelt(id), logprob) for id, logprob in token.score.top),
            )
            for token in tokens
            if token.score is not None
        ]

    def _spelt(self, token: int) -> tuple[str, list[int]]:
        data = self._origin.tokenizer.token_bytes(token)
        return data.decode(errors="replace"), list(data)

    def _usage(self) -> ResponseUsage:
        choice = self._choice
        return ResponseUsage(
            choice.prompt_tokens,
            InputTokensDetails(choice.cached_tokens),
            self._completion_tokens,
            ResponseTokensDetails(self._reader.reasoning_tokens),
            choice.prompt_tokens + self._completion_tokens,
        )

    def _state(self, kind: str, status: str | None = None) -> ResponseEvent:
        return self._tell(kind, response=self.response(status))

    def _tell(self, kind: str, **fields: Any) -> ResponseEvent:
        self._number += 1
        return ResponseEvent(kind, self._number, **fields)


def _reasoning(request: ResponsesRequest) -> dict[str, Any]:
    asked = request.reasoning
    if asked is None:
        return {"effort": None, "summary": None}
    return {"effort": asked.effort, "summary": asked.summary or asked.generate_summary}


def _text(request: ResponsesRequest) -> dict[str, Any]:
    asked = request.text
    if asked is None or asked.format is None:
        format: dict[str, Any] = {"type": "text"}
    elif asked.format.type != "json_schema":
        format = {"type": asked.format.type}
    else:
        format = {
            "type": "json_schema",
            "name": asked.format.name or "output",
            "schema": asked.format.schema,
            "description": asked.format.description,
            "strict": bool(asked.format.strict),
        }
    return {"format": format, "verbosity": (asked and asked.verbosity) or "medium"}


def _events(events: Sequence[ResponseEvent]) -> bytes:
    return b"".join([event(_encode(each), each.type) for each in events])
