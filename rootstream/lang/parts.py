"""What a program says, piece by piece: immutable values that add up.

Knows nothing of servers, states or time. The structs are also the JSON that our server reads (docs/contexts.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import msgspec

Role = Literal["system", "developer", "user", "assistant"]
Method = Literal["token_length_normalized", "greedy_token", "unconditional_likelihood_normalized"]


class Text(msgspec.Struct, frozen=True, tag="text"):
    """Text as it is."""

    text: str


class Open(msgspec.Struct, frozen=True, tag="open"):
    """A message begins; what comes up to Close is its content."""

    role: Role


class Close(msgspec.Struct, frozen=True, tag="close"):
    """The open message ends."""


class Message(msgspec.Struct, frozen=True, tag="message"):
    """A whole message as chat APIs write it, of any role: for the results of tools."""

    message: dict[str, Any]


class Image(msgspec.Struct, frozen=True, tag="image"):
    """A picture by its address or as a data URL."""

    url: str


class Gen(msgspec.Struct, frozen=True, tag="gen", omit_defaults=True, kw_only=True):
    """The model goes on from here. What is None is as the server has it."""

    name: str
    max_tokens: int | None = None
    min_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    stop_regex: tuple[str, ...] = ()
    ignore_eos: bool = False
    logit_bias: dict[str, float] | None = None
    n: int = 1
    regex: str | None = None
    json_schema: dict[str, Any] | None = None
    choices: tuple[str, ...] = ()
    grammar: str | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    tool_choice: Any = None


class Select(msgspec.Struct, frozen=True, tag="select", kw_only=True):
    """The likeliest of some texts, as the model sees it."""

    name: str
    choices: tuple[str, ...]
    method: Method = "token_length_normalized"


Part = Text | Open | Close | Message | Image | Gen | Select


class Typed(msgspec.Struct, frozen=True):
    """A generation whose text is read as a value: never on the wire."""

    gen: Gen
    read: Callable[[str], Any]
    """Raises ValueError."""


class Tools(msgspec.Struct, frozen=True):
    """What the model may call in this conversation: never on the wire as a part."""

    schemas: tuple[dict[str, Any], ...]
    functions: dict[str, Callable[..., Any]] = {}
    """By name, where they are Python's."""


Saying = Part | Typed | Tools
"""A part, or what programs say besides parts."""


class Parts:
    """Sayings in a row; adds to others and to strings on both sides."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Iterable[Saying] = ()) -> None:
        self._parts = tuple(parts)

    @classmethod
    def of(cls, said: Said) -> Parts:
        """Raises TypeError for what nobody can say."""
        match said:
            case Parts():
                return said
            case str():
                return cls((Text(said),)) if said else cls()
            case _:
                kind = type(said).__name__
                raise TypeError(f"a program is made of strings, gen, select and messages, not of {kind}: use str()?")

    def __iter__(self) -> Iterator[Saying]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __add__(self, other: Said) -> Parts:
        return Parts((*self._parts, *Parts.of(other)))

    def __radd__(self, other: Said) -> Parts:
        return Parts((*Parts.of(other), *self._parts))

    def __repr__(self) -> str:
        return f"Parts({', '.join(map(repr, self._parts))})"


Said = Parts | str
