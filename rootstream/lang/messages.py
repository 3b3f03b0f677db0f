"""Parts as chat messages: what Open, Text, Image and Close amount to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rootstream.lang.parts import Close, Gen, Image, Message, Open, Part, Select, Text


def message_of(parts: Sequence[Part]) -> dict[str, Any]:
    """The message that an Open, and what stands up to its Close, are."""
    opened = parts[0]
    assert isinstance(opened, Open)
    content: list[dict[str, Any]] = []
    for part in parts[1:]:
        match part:
            case Text(text):
                content.append({"type": "text", "text": text})
            case Image(url):
                content.append({"type": "image_url", "image_url": {"url": url}})
            case _:
                raise ValueError(f"no {type(part).__name__} in the content of a message")
    if all(piece["type"] == "text" for piece in content):
        return {"role": opened.role, "content": "".join(piece["text"] for piece in content)}
    return {"role": opened.role, "content": content}


def messages_of(parts: Iterable[Part]) -> list[dict[str, Any]]:
    """The messages of a conversation; one that is still open is among them as far as it goes.

    Raises ValueError for text outside messages and for what is still to be generated.
    """
    messages: list[dict[str, Any]] = []
    opened: list[Part] = []
    for part in parts:
        match part:
            case Open():
                opened = [part]
            case Close():
                messages.append(message_of(opened))
                opened = []
            case Message(message):
                messages.append(message)
            case Gen(name=name) | Select(name=name):
                raise ValueError(f"{name!r} has not run")
            case _ if opened:
                opened.append(part)
            case _:
                raise ValueError("there is text outside messages: this is no conversation, use text()")
    if opened:
        messages.append(message_of(opened))
    return messages


def text_of(parts: Iterable[Part]) -> str:
    """The text that parts say; messages as `role: content` lines, since only the server knows a model's own form."""
    parts = tuple(parts)
    if not any(isinstance(part, Open | Message) for part in parts):
        return "".join(part.text for part in parts if isinstance(part, Text))
    return "\n".join(f"{message['role']}: {_content(message)}" for message in messages_of(parts))


def _content(message: dict[str, Any]) -> str:
    content: Any = message.get("content")
    if isinstance(content, list):
        return "".join(str(piece.get("text", f"[{piece.get('type')}]")) for piece in content)
    calls = message.get("tool_calls") or ()
    said = [content] if content else []
    return " ".join([*said, *(f"{call['function']['name']}({call['function']['arguments']})" for call in calls)])
