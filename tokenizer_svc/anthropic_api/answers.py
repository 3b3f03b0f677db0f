"""Answers of /v1/messages: one whole message, or the events of a stream.

A stream is: message_start, ping, for every block content_block_start, deltas and content_block_stop, then message_delta
with the stop reason and the usage, message_stop. Every event has its type in a line of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shared.protocol import Finish, Scores
from tokenizer_svc.answers import Answer, Piece
from tokenizer_svc.anthropic_api.blocks import Blocks
from tokenizer_svc.anthropic_api.errors import error_event
from tokenizer_svc.anthropic_api.shapes import (
    Event,
    MessageDelta,
    MessageReply,
    MessageStart,
    MessageStop,
    MessageUsage,
    Ping,
    ReplyBlock,
    Stopped,
)
from tokenizer_svc.api_error import ApiError
from tokenizer_svc.reading import AnswerReader
from tokenizer_svc.sse import event

_encode = msgspec.json.Encoder().encode


class MessageAnswers:
    """The one answer to a request."""

    prefix = "msg_"
    waiting = None

    def __init__(
        self, answer: Answer, reader: AnswerReader, model: str, *, max_tokens: int, shows_thoughts: bool
    ) -> None:
        """``max_tokens``: as asked; where there was room for fewer the answer may end before."""
        self._choice = answer.choices[0]
        self._id = f"{self.prefix}{answer.id:016x}"
        self._model = model
        self._reader = reader
        self._max_tokens = max_tokens
        self._blocks = Blocks(f"{answer.id:016x}", shows_thoughts=shows_thoughts)

    def opening(self) -> bytes:
        """The first events of a stream."""
        return _events((MessageStart(self._message((), Stopped(None, None), self._usage(0))), Ping()))

    def piece(self, piece: Piece) -> bytes:
        """The events for one piece."""
        events = self._blocks.push(self._reader.push(piece.choice, piece.text, piece.tokens, piece.finish))
        if piece.finish is not Finish.NONE:
            events += self._blocks.finish()
            events.append(MessageDelta(self._stopped(), self._usage(piece.completion_tokens)))
        return _events(events)

    def closing(self) -> bytes:
        """The end of a stream that went well."""
        return _events((MessageStop(),))

    def failing(self, error: ApiError) -> bytes:
        """The end of a stream that went wrong."""
        return error_event(error)

    def whole(self, texts: Sequence[str], tokens: Sequence[Sequence[int]], scores: Sequence[Scores | None]) -> bytes:
        """The answer of a request that is no stream."""
        del scores
        choice = self._choice
        self._blocks.push(self._reader.push(choice, texts[0], tokens[0], choice.finish))
        self._blocks.finish()
        return _encode(self._message(self._blocks.whole, self._stopped(), self._usage(choice.completion_tokens)))

    def _message(self, content: Sequence[ReplyBlock], stopped: Stopped, usage: MessageUsage) -> MessageReply:
        reason, sequence = stopped.stop_reason, stopped.stop_sequence
        return MessageReply(self._id, "assistant", self._model, content, reason, sequence, usage)

    def _usage(self, output_tokens: int) -> MessageUsage:
        cached = self._choice.cached_tokens
        return MessageUsage(self._choice.prompt_tokens - cached, output_tokens, cached)

    def _stopped(self) -> Stopped:
        choice = self._choice
        match self._reader.finish_reason(choice), choice.finish, choice.matched:
            case "tool_calls", _, _:
                return Stopped("tool_use", None)
            case "length", _, _:
                return Stopped("max_tokens", None)
            case _, Finish.STOP, str(sequence):
                return Stopped("stop_sequence", sequence)
            case _, Finish.STOP, _:
                return Stopped("end_turn", None)
            case _, Finish.LENGTH, _:
                is_asked = choice.completion_tokens >= self._max_tokens
                return Stopped("max_tokens" if is_asked else "model_context_window_exceeded", None)
            case _:  # an operator ended it: there is no word for that
                return Stopped(None, None)


def _events(events: Sequence[Event]) -> bytes:
    return b"".join([event(_encode(each), _type(each)) for each in events])


def _type(each: Event) -> str:
    return str(each.__struct_config__.tag)
