"""Which parts may follow which: text by itself or messages, never both. Pure; looked at before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizer_svc.api_error import ApiError, invalid
from tokenizer_svc.contexts.request import ClosePart, GenPart, MessagePart, OpenPart, Part, SelectPart, TextPart
from tokenizer_svc.contexts.state import State


def check_order(parts: Sequence[Part], state: State) -> None:
    """Raises ApiError 400 naming the first part that cannot stand where it is."""
    names: set[str] = set()
    for index, part in enumerate(parts):
        path = f"parts[{index}]"
        if isinstance(part, GenPart | SelectPart):
            if part.name in names:
                raise _wrong(f"{path}.name", f"{part.name!r} is the name of an earlier part of this call")
            names.add(part.name)
    is_raw, is_chat = state.is_raw, state.chat is not None
    role = None if state.chat is None else state.chat.role
    for index, part in enumerate(parts):
        path = f"parts[{index}]"
        match part:
            case OpenPart() | MessagePart() | ClosePart():
                if is_raw:
                    raise _mixed(path, "a message in a context of plain text")
                role = _role_after(part, role, path)
                is_chat = True
            case TextPart(text=""):
                pass
            case TextPart() | GenPart() | SelectPart():
                if is_chat:
                    _check_within(part, role, path)
                is_raw = not is_chat


def _role_after(part: OpenPart | MessagePart | ClosePart, role: str | None, path: str) -> str | None:
    """Of the message that is open after a part."""
    if isinstance(part, ClosePart):
        if role is None:
            raise _wrong(path, "no message is open here")
        return None
    if role is not None:
        raise _wrong(path, f"the {role} message before it is open: close it first")
    return part.role if isinstance(part, OpenPart) else None


def _check_within(part: Part, role: str | None, path: str) -> None:
    """Whether text may stand here, in a conversation."""
    if role is None:
        raise _mixed(path, "text outside messages in a context of messages: open one first")
    if isinstance(part, GenPart) and role != "assistant":
        raise _wrong(path, f"the model writes assistant messages, and a {role} message is open")


def _mixed(path: str, what: str) -> ApiError:
    return invalid(f"{path} is {what}: a context is one or the other", path, "mixed_context")


def _wrong(path: str, why: str) -> ApiError:
    return invalid(f"{path} cannot be here: {why}", path, "misplaced_part")
