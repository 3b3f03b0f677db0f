"""A conversation: its messages, its model and how answers are drawn. Pure; knows nothing of terminals or servers."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from typing import Any

from shared.errors import UserError

Message = dict[str, str]


def _flag(text: str) -> bool:
    try:
        return {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}[text.lower()]
    except KeyError:
        raise ValueError(text) from None


def _strings(text: str) -> list[str]:
    """A JSON list of strings, or one string as it stands."""
    try:
        value = json.loads(text)
    except ValueError:
        return [text]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    return [value] if isinstance(value, str) else [text]


FIELDS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "temperature": ("a number", float),
    "top_p": ("a number", float),
    "top_k": ("a whole number", int),
    "min_p": ("a number", float),
    "max_tokens": ("a whole number", int),
    "min_tokens": ("a whole number", int),
    "seed": ("a whole number", int),
    "stop": ("a text or a JSON list of texts", _strings),
    "frequency_penalty": ("a number", float),
    "presence_penalty": ("a number", float),
    "repetition_penalty": ("a number", float),
    "ignore_eos": ("true or false", _flag),
    "reasoning_effort": ("a word, such as low", str),
    "chat_template_kwargs": ("a JSON object", json.loads),
    "response_format": ("a JSON object", json.loads),
}
"""What `/set` knows: request fields, what their values are, and how those are read."""


class Conversation:
    """What was said, and how to go on."""

    def __init__(self, model: str, system: str | None = None, options: Mapping[str, Any] | None = None) -> None:
        self.model = model
        self.system = system
        self.options: dict[str, Any] = dict(options or {})
        self.messages: list[Message] = []

    def body(self) -> dict[str, Any]:
        """The request for the next answer."""
        first = [{"role": "system", "content": self.system}] if self.system else []
        return {**self.options, "model": self.model, "messages": [*first, *self.messages]}

    def ask(self, question: str) -> None:
        self.messages.append({"role": "user", "content": question})

    def answer(self, text: str) -> None:
        self.messages.append({"role": "assistant", "content": text})

    def clear(self) -> None:
        self.messages = []

    def undo(self) -> str | None:
        """Take back the last question with its answer; the question, None where there is none."""
        while self.messages:
            message = self.messages.pop()
            if message["role"] == "user":
                return message["content"]
        return None

    def set(self, name: str, value: str) -> None:
        """Raises UserError for a field or a value that is none."""
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(FIELDS)}"
            raise UserError(f"/set knows no {name}: {hint}")
        kind, read = FIELDS[name]
        try:
            self.options[name] = read(value)
        except ValueError:
            raise UserError(f"{name} must be {kind}, not {value!r}") from None

    def as_json(self) -> str:
        kept = {"model": self.model, "system": self.system, "options": self.options, "messages": self.messages}
        return json.dumps(kept, indent=2, ensure_ascii=False) + "\n"

    def load(self, text: str) -> None:
        """Take over what :meth:`as_json` wrote, or a plain list of messages. Raises UserError, changing nothing."""
        try:
            kept = json.loads(text)
        except ValueError as error:
            raise UserError(f"it is not JSON: {error}") from None
        fields: dict[str, Any] = kept if isinstance(kept, dict) else {"messages": kept}
        messages = fields.get("messages")
        if not isinstance(messages, list) or not all(_is_message(message) for message in messages):
            raise UserError("it holds no messages with role and content")
        said = [{"role": message["role"], "content": message["content"]} for message in messages]
        systems = [message["content"] for message in said if message["role"] == "system"]
        options: Any = fields.get("options")
        self.messages = [message for message in said if message["role"] != "system"]
        self.system = fields.get("system") or (systems[0] if systems else None)
        known = options.items() if isinstance(options, dict) else ()
        self.options = {name: value for name, value in known if name in FIELDS}


def _is_message(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.get("role") in {"system", "user", "assistant"}
        and isinstance(value.get("content"), str)
    )
