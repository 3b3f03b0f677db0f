"""Which shape a call has, by the format that it is written in."""

from __future__ import annotations

from tokenizer_svc.tools.call_body import CallBody, Functions, Step
from tokenizer_svc.tools.call_object import CallObject
from tokenizer_svc.tools.formats import SPACE, Shape
from tokenizer_svc.tools.named_call import deepseek_call, mistral_call
from tokenizer_svc.tools.python_call import PythonCall
from tokenizer_svc.tools.tagged_call import FUNCTION_TAGS, KEY_TAGS, TaggedCall


def open_call(shape: Shape, functions: Functions) -> CallBody:
    """A reader of the next call."""
    match shape:
        case Shape.OBJECT:
            return CallObject(functions)
        case Shape.NAMED:
            return deepseek_call(functions)
        case Shape.MISTRAL:
            return _MistralCall(functions)
        case Shape.PYTHON:
            return PythonCall(functions)
        case Shape.FUNCTION_TAG:
            return TaggedCall(functions, FUNCTION_TAGS)
        case Shape.KEY_TAGS:
            return TaggedCall(functions, KEY_TAGS)


class _MistralCall:
    """An object, perhaps the first one of a list, or a name and its arguments: the first character tells."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self._is_listed = False
        self._body: CallBody | None = None

    @property
    def name(self) -> str | None:
        return None if self._body is None else self._body.name

    @property
    def has_arguments(self) -> bool:
        return self._body is not None and self._body.has_arguments

    def written(self) -> str:
        return "" if self._body is None else self._body.written()

    def feed(self, char: str) -> Step:
        if self._body is None:
            if char in SPACE:
                return Step.TAKEN
            if char == "[" and not self._is_listed:
                self._is_listed = True
                return Step.TAKEN
            is_object = self._is_listed or char == "{"
            self._body = CallObject(self._functions) if is_object else mistral_call(self._functions)
        return self._body.feed(char)
