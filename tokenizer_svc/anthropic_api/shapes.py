"""Messages and events of Anthropic's API. No logic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct


class MessageUsage(Struct, frozen=True):
    """Tokens of one message; those of the prompt are the sum of what was computed and what came from the cache."""

    input_tokens: int  # computed
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int = 0  # nothing is charged for what the cache keeps


class TextBlock(Struct, frozen=True, tag="text"):
    """Text of the answer."""

    text: str
    citations: None = None


class ThinkingBlock(Struct, frozen=True, tag="thinking"):
    """What the model thought first."""

    thinking: str
    signature: str = ""


class ToolUseBlock(Struct, frozen=True, tag="tool_use"):
    """A call of a tool."""

    id: str
    name: str
    input: dict[str, Any]


ReplyBlock = TextBlock | ThinkingBlock | ToolUseBlock


class MessageReply(Struct, frozen=True, tag="message"):
    """A whole answer, or what is known of one as it starts."""

    id: str
    role: str
    model: str
    content: Sequence[ReplyBlock]
    stop_reason: str | None
    stop_sequence: str | None
    usage: MessageUsage


class MessageStart(Struct, frozen=True, tag="message_start"):
    """The first event."""

    message: MessageReply


class Ping(Struct, frozen=True, tag="ping"):
    """Nothing new."""


class BlockStart(Struct, frozen=True, tag="content_block_start"):
    """A block begins."""

    index: int
    content_block: ReplyBlock


class TextDelta(Struct, frozen=True, tag="text_delta"):
    """More text."""

    text: str


class ThinkingDelta(Struct, frozen=True, tag="thinking_delta"):
    """More thoughts."""

    thinking: str


class InputJsonDelta(Struct, frozen=True, tag="input_json_delta"):
    """More of a call's input."""

    partial_json: str


class SignatureDelta(Struct, frozen=True, tag="signature_delta"):
    """Thoughts end; there is nothing to prove about them here."""

    signature: str


class BlockDelta(Struct, frozen=True, tag="content_block_delta"):
    """More of a block."""

    index: int
    delta: TextDelta | ThinkingDelta | InputJsonDelta | SignatureDelta


class BlockStop(Struct, frozen=True, tag="content_block_stop"):
    """A block ends."""

    index: int


class Stopped(Struct, frozen=True):
    """Why the message ended."""

    stop_reason: str | None
    stop_sequence: str | None


class MessageDelta(Struct, frozen=True, tag="message_delta"):
    """The end of a message, and its usage."""

    delta: Stopped
    usage: MessageUsage


class MessageStop(Struct, frozen=True, tag="message_stop"):
    """The last event."""


Event = MessageStart | Ping | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop


class TokenCount(Struct, frozen=True):
    """How many tokens a request has."""

    input_tokens: int
