"""What is known of a context: its tokens, and of a conversation its messages. Values, and no I/O."""

from __future__ import annotations

from typing import Any

import msgspec

from tokenizer_svc.contexts.tokens import Written


class Conversation(msgspec.Struct, frozen=True):
    """The messages of a context, and how far its tokens stand for them."""

    messages: tuple[dict[str, Any], ...] = ()  # that have ended, as chats have them
    role: str | None = None  # of the open one
    content: str = ""  # of the open one so far, with all that the model wrote
    plain: str = ""  # of that, what is neither thought nor call
    thoughts: str = ""
    calls: tuple[dict[str, Any], ...] = ()  # that the model made in the open one
    is_generated: bool = False  # whether any of the open one is the model's
    shown: str = ""  # the text that the tokens stand for
    lead: str = ""  # the end of that before the open one's content
    is_due: bool = False  # whether the tokens lag behind the messages

    def opened(self, role: str) -> Conversation:
        return msgspec.structs.replace(
            self, role=role, content="", plain="", thoughts="", calls=(), is_generated=False, lead="", is_due=True
        )

    def ended(self, message: dict[str, Any]) -> Conversation:
        """With one more whole message, and none open."""
        return msgspec.structs.replace(self, messages=(*self.messages, message), role=None, content="", is_due=True)

    @property
    def so_far(self) -> tuple[dict[str, Any], ...]:
        """The messages with the open one."""
        if self.role is None:
            return self.messages
        return (*self.messages, {"role": self.role, "content": self.content})


class State(msgspec.Struct, frozen=True):
    """A context."""

    written: Written = Written()
    chat: Conversation | None = None  # of one that has messages
    is_raw: bool = False  # has text outside messages
    tools: tuple[Any, ...] = ()  # as the request had them that began it
    variables: dict[str, Any] = {}  # of the chat template, likewise

    @property
    def is_open(self) -> bool:
        return self.chat is not None and self.chat.role is not None
