"""What programs say: functions that make parts, and tell at once what is wrong with their arguments.

Knows nothing of servers and states.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from rootstream.lang.parts import (
    Close,
    Gen,
    Image,
    Message,
    Method,
    Open,
    Parts,
    Role,
    Said,
    Saying,
    Select,
    Typed,
)
from rootstream.lang.schemas import Shape, constrain, json_shape, shape_of
from rootstream.lang.tools import Tool, tools_of

METHODS: tuple[Method, ...] = get_args(Method)
DEFAULTS = frozenset(
    {
        "max_tokens",
        "min_tokens",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "frequency_penalty",
        "presence_penalty",
        "repetition_penalty",
        "stop",
        "stop_token_ids",
        "stop_regex",
        "ignore_eos",
        "logit_bias",
        "logprobs",
        "top_logprobs",
    }
)
"""What a whole program's generations may be given at once."""


def gen(
    name: str,
    *,
    max_tokens: int | None = None,
    min_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    frequency_penalty: float | None = None,
    presence_penalty: float | None = None,
    repetition_penalty: float | None = None,
    seed: int | None = None,
    stop: str | Sequence[str] | None = None,
    stop_token_ids: Sequence[int] | None = None,
    stop_regex: str | Sequence[str] | None = None,
    ignore_eos: bool = False,
    logit_bias: Mapping[int | str, float] | None = None,
    n: int = 1,
    regex: str | None = None,
    json_schema: Any = None,
    choices: Sequence[str] | None = None,
    grammar: str | None = None,
    dtype: Any = None,
    logprobs: bool = False,
    top_logprobs: int | None = None,
    tools: Iterable[Tool] | None = None,
    tool_choice: Any = None,
) -> Parts:
    """The model goes on from here, and ``s[name]`` is what it says. What is None is as the server has it.

    ``dtype`` is a type that the text is held to, and read as: int, float, bool, str, a Literal, an Enum, a model of
    pydantic, a msgspec Struct, a dataclass, list[…] and so on. ``json_schema`` is a schema, or a type written as JSON.
    ``regex``, ``choices`` and ``grammar`` hold the text to a form; beside one of them ``dtype`` only reads.
    With ``n`` above one, ``s[name]`` is a list, and the program goes on from the first.
    """
    _text(name, "gen takes the name of its value first")
    given = {"regex": regex, "json_schema": json_schema, "choices": choices, "grammar": grammar}
    forms = [field for field, value in given.items() if value is not None]
    if len(forms) > 1:
        raise ValueError(f"gen({name!r}): {' and '.join(forms)} hold the same text to two forms: give one")
    shape = _shape(name, json_schema, dtype)
    form: dict[str, Any] = {"regex": regex, "choices": choices and texts("choices", choices), "grammar": grammar}
    if choices is not None and not choices:
        raise ValueError(f"gen({name!r}): choices is empty")
    if json_schema is not None or not forms:
        form |= constrain(shape)
    sampling = {
        "max_tokens": max_tokens,
        "min_tokens": min_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "frequency_penalty": frequency_penalty,
        "presence_penalty": presence_penalty,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
        "n": n,
        "stop": stop,
        "stop_token_ids": stop_token_ids,
        "stop_regex": stop_regex,
        "logit_bias": logit_bias,
        "top_logprobs": top_logprobs,
    }
    asked = Gen(
        name=name,
        ignore_eos=ignore_eos,
        logprobs=logprobs or top_logprobs is not None,
        tool_choice=tool_choice,
        **checked(form | sampling, f"gen({name!r})"),
    )
    if asked.n < 1:
        raise ValueError(f"gen({name!r}): n is how many texts are drawn: 1 or more, not {n!r}")
    saying: Saying = asked if shape.read is None else Typed(asked, shape.read)
    return Parts((saying,)) if tools is None else Parts((tools_of(tools), saying))


def _shape(name: str, json_schema: Any, dtype: Any) -> Shape:
    try:
        if dtype is None:
            return Shape() if json_schema is None else json_shape(json_schema)
        return shape_of(dtype) if json_schema is None else json_shape(json_schema)._replace(read=json_shape(dtype).read)
    except TypeError as error:
        raise TypeError(f"gen({name!r}): {error}") from None


_WHOLE = frozenset({"n", "max_tokens", "min_tokens", "top_k", "seed", "top_logprobs"})
_NUMBERS = frozenset({"temperature", "top_p", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty"})
_MAY_BE_NEGATIVE = frozenset({"top_k", "seed", "frequency_penalty", "presence_penalty"})


def checked(fields: dict[str, Any], where: str) -> dict[str, Any]:
    """Fields of a Gen in the types that it has. Raises TypeError and ValueError that name the field."""
    return {field: _checked(field, value, where) for field, value in fields.items() if value is not None}


def _checked(field: str, value: Any, where: str) -> Any:
    if field in _WHOLE or field in _NUMBERS:
        if not isinstance(value, int if field in _WHOLE else int | float) or isinstance(value, bool):
            raise TypeError(f"{where}: {field} is a {'whole ' if field in _WHOLE else ''}number, not {value!r}")
        if value < 0 and field not in _MAY_BE_NEGATIVE:
            raise ValueError(f"{where}: {field} is {value}, which is below 0")
        return value
    match field:
        case "stop" | "stop_regex":
            return texts(f"{where}: {field}", value)
        case "stop_token_ids":
            return tuple(value)
        case "logit_bias":
            return {str(token): float(bias) for token, bias in value.items()}
        case "regex" | "grammar" if not isinstance(value, str):
            raise TypeError(f"{where}: {field} is a text, not {value!r}")
        case _:
            return value


def texts(field: str, value: Any) -> tuple[str, ...]:
    """One text or several, as a tuple. Raises TypeError, ValueError for empty ones."""
    found: tuple[Any, ...] = (value,) if isinstance(value, str) else tuple(value)
    for text in found:
        if not isinstance(text, str):
            raise TypeError(f"{field} holds {text!r}, which is no text")
        if not text:
            raise ValueError(f"{field} holds an empty text")
    return found


def select(name: str, choices: Sequence[str], method: Method = "token_length_normalized") -> Parts:
    """The likeliest of ``choices`` is said, and ``s[name]`` is that text; ``s.meta(name)`` has the scores. One call.

    Raises ValueError, TypeError.
    """
    _text(name, "select takes the name of its value first")
    if isinstance(choices, str):
        raise TypeError(f"select({name!r}): choices is one text; it takes a list of texts")
    found = texts("choices", choices)
    if not found:
        raise ValueError(f"select({name!r}): choices is empty")
    if len(set(found)) < len(found):
        raise ValueError(f"select({name!r}): some choice is given twice")
    if method not in METHODS:
        raise ValueError(f"select({name!r}): method is one of {', '.join(METHODS)}, not {method!r}")
    return Parts((Select(name=name, choices=found, method=method),))


def system(said: Said) -> Parts:
    """A message of the system."""
    return _message("system", said)


def developer(said: Said) -> Parts:
    """A message of the developer, where the model's template knows one."""
    return _message("developer", said)


def user(said: Said) -> Parts:
    """A message of the user."""
    return _message("user", said)


def assistant(said: Said) -> Parts:
    """A message of the assistant: the place for gen and select in a conversation."""
    return _message("assistant", said)


def _message(role: Role, said: Said) -> Parts:
    return Parts((Open(role), *Parts.of(said), Close()))


def message(message: Mapping[str, Any]) -> Parts:
    """A whole message as chat APIs write it, such as a tool's result; see also tool_result."""
    if not isinstance(message.get("role"), str):
        raise ValueError('a message has a "role", as in {"role": "user", "content": "…"}')
    return Parts((Message(dict(message)),))


def image(url: str) -> Parts:
    """A picture by its address, or as a data URL. Servers without a vision model refuse it."""
    return Parts((Image(_text(url, "an image is given by its address or as a data URL")),))


def tools(tools: Iterable[Tool]) -> Parts:
    """What the model may call in this conversation: Python's functions, or schemas as chat APIs write them."""
    return Parts((tools_of(tools),))


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{what}, not {value!r}")
    return value
