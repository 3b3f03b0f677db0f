"""What a request says of reasoning: SGLang's and vLLM's fields."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class ReasoningWish(NamedTuple):
    """What becomes of reasoning."""

    is_separate: bool = True  # told apart from content; else the whole text is content
    is_included: bool = True  # part of the answer
    is_streamed: bool = True  # in pieces as it comes; else in one piece when it is over


class ReasoningFields(Protocol):
    """The fields of a request that are about reasoning, as clients send them."""

    @property
    def separate_reasoning(self) -> bool | None: ...

    @property
    def include_reasoning(self) -> bool | None: ...

    @property
    def stream_reasoning(self) -> bool | None: ...


def read_wish(fields: ReasoningFields) -> ReasoningWish:
    """What the fields amount to: each is true where it is not there."""
    return ReasoningWish(
        is_separate=fields.separate_reasoning is not False,
        is_included=fields.include_reasoning is not False,
        is_streamed=fields.stream_reasoning is not False,
    )
