"""The blocks of a message as they grow: parts of a reply in, events and whole blocks out.

A pure fold. Knows nothing of bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tokenizer_svc.anthropic_api.partial_json import object_so_far
from tokenizer_svc.anthropic_api.shapes import (
    BlockDelta,
    BlockStart,
    BlockStop,
    Event,
    InputJsonDelta,
    ReplyBlock,
    SignatureDelta,
    TextBlock,
    TextDelta,
    ThinkingBlock,
    ThinkingDelta,
    ToolUseBlock,
)
from tokenizer_svc.parts import Arguments, Content, Ended, Part, Reasoning, Started


class Blocks:
    """The content of one message."""

    def __init__(self, id: str, *, shows_thoughts: bool = True) -> None:
        """``id``: what makes the ids of calls unique. ``shows_thoughts``: whether they are told; where they are not,
        their block is there, and empty.
        """
        self._id = id
        self._shows_thoughts = shows_thoughts
        self._done: list[ReplyBlock] = []
        self._open: ReplyBlock | None = None
        self._said: list[str] = []  # of the open block

    @property
    def whole(self) -> Sequence[ReplyBlock]:
        """All blocks that ended."""
        return self._done

    def push(self, parts: Sequence[Part]) -> list[Event]:
        """The events of the next parts."""
        return [event for part in parts for event in self._take(part)]

    def finish(self) -> list[Event]:
        """The last events. A message without a word has one empty block: clients look for their text in the first."""
        opening = [] if self._open or self._done else self._begin(TextBlock(""))
        return [*opening, *self._end()]

    def _take(self, part: Part) -> Iterator[Event]:
        match part:
            case Started(call, name):
                yield from self._begin(ToolUseBlock(f"toolu_{self._id}_{call}", name, {}))
            case Arguments(_, text):
                yield self._delta(text, InputJsonDelta(text))
            case Ended():
                yield from self._end()
            case Content(text):
                if not isinstance(self._open, TextBlock):
                    yield from self._begin(TextBlock(""))
                yield self._delta(text, TextDelta(text))
            case Reasoning(text):
                if not isinstance(self._open, ThinkingBlock):
                    yield from self._begin(ThinkingBlock(""))
                if self._shows_thoughts:
                    yield self._delta(text, ThinkingDelta(text))

    def _begin(self, block: ReplyBlock) -> list[Event]:
        ended = self._end()
        self._open = block
        return [*ended, BlockStart(len(self._done), block)]

    def _delta(self, text: str, delta: TextDelta | ThinkingDelta | InputJsonDelta) -> Event:
        self._said.append(text)
        return BlockDelta(len(self._done), delta)

    def _end(self) -> list[Event]:
        if self._open is None:
            return []
        index = len(self._done)
        self._done.append(_completed(self._open, "".join(self._said)))
        signed: list[Event] = [BlockDelta(index, SignatureDelta(""))] if isinstance(self._open, ThinkingBlock) else []
        self._open, self._said = None, []
        return [*signed, BlockStop(index)]


def _completed(block: ReplyBlock, said: str) -> ReplyBlock:
    match block:
        case TextBlock():
            return TextBlock(said)
        case ThinkingBlock():
            return ThinkingBlock(said)
        case ToolUseBlock(id=id, name=name):
            return ToolUseBlock(id, name, object_so_far(said))
