"""A sandbox for chat templates from strangers: no way to Python's insides, and none to take the machine.

jinja's immutable sandbox sees to the first. For the second, everything that a template does passes by here: each turn
of a loop, each operator that can make large values, each filter, test and call, and all output is counted against the
:class:`~shared.template_budget.Budget` of the rendering, and what multiplies sizes is reckoned before it is done.
This happens in the same process, because a chat must not wait for another one; docs/hostile-input.md has what it costs.

A few filters that chat templates have no use for are gone (urlize, xmlattr, striptags, wordwrap, pprint), and so is
lipsum: their costs have no simple bound.
"""

from __future__ import annotations

import contextvars
import functools
import re
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from string import Formatter
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import pass_context
from jinja2.visitor import NodeTransformer

from shared.template_budget import MOST_BITS, MOST_NUMBER, Budget, TooMuch

_budget: contextvars.ContextVar[Budget] = contextvars.ContextVar("template_budget")

_GONE = ("urlize", "xmlattr", "striptags", "wordwrap", "pprint")
_UNBOUNDED_METHODS = ("expandtabs", "translate")
_WIDTHS = ("center", "indent", "batch", "slice", "truncate", "round", "tojson")
"""Filters whose numbers say how large their result is."""
_WIDE = re.compile(r"\d{5}")
_WIDE_PERCENT = re.compile(r"%[^a-zA-Z%]*(?:\*|\d{5})")
"""A width of five digits, or one that is an argument."""

_Function = Callable[..., Any]


@contextmanager
def budgeted(given: Any) -> Generator[Budget]:
    """Within it, templates of this thread or task are held to a budget. ``given``: what they get."""
    token = _budget.set(Budget(given))
    try:
        yield _budget.get()
    finally:
        _budget.reset(token)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Compiles templates that can only be rendered within :func:`budgeted`."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, *, filters: Mapping[str, _Function], **options: Any) -> None:
        """``filters`` beside, or instead of, jinja's own."""
        super().__init__(finalize=_shown, **options)
        table: dict[str, Any] = self.filters
        table.update(filters)
        for name in _GONE:
            del table[name]
        del self.globals["lipsum"]
        table.update({name: _bounded(name, function) for name, function in table.items()})
        table.update({_TURN: _turn, _JOINED: _joined, _WEIGHED: _weighed})
        self.tests.update({name: _bounded(name, function) for name, function in self.tests.items()})

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return _Hooks().visit(super()._parse(source, name, filename))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        del context
        budget = _budget.get()
        if operator != "+" or type(left) is not str:
            _check_binop(budget, operator, left, right)
        return budget.take(self.binop_table[operator](left, right))

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        budget = _budget.get()
        owner = getattr(function, "__self__", None)
        if isinstance(owner, str):
            _check_method(budget, function.__name__, owner, args, kwargs)
        _weigh_arguments(budget, args, kwargs)
        return budget.take(super().call(context, function, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> _Function | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def bounded(*args: Any, **kwargs: Any) -> str:
            _check_braces(_budget.get(), value.__self__, (*args, *kwargs.values()))
            return wrapped(*args, **kwargs)

        return bounded


def _shown(value: Any) -> Any:
    """What a template prints."""
    return _budget.get().take(value)


def _bounded(name: str, function: _Function) -> _Function:
    """A filter or test whose arguments and result are weighed, and reckoned before where it multiplies."""
    first = 1 if hasattr(function, "jinja_pass_arg") else 0  # of the arguments that the template gives
    multiply = _MULTIPLIERS.get(name)
    is_width = name in _WIDTHS

    @functools.wraps(function)  # and the marks by which jinja passes its environment along
    def bounded(*args: Any, **kwargs: Any) -> Any:
        budget = _budget.get()
        given = args[first:]
        if is_width:
            _check_numbers(given[1:], kwargs)
        if given and multiply is not None:
            given = multiply(budget, given, kwargs)
            args = (*args[:first], *given)
        if given and type(given[0]) is not str:
            budget.weigh(given[0])
        _weigh_arguments(budget, given[1:], kwargs)
        return budget.take(function(*args, **kwargs))

    return bounded


def _weigh_arguments(budget: Budget, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    for value in (*args, *kwargs.values()) if kwargs else args:
        if type(value) is not str:
            budget.weigh(value)


def _check_numbers(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    for value in (*args, *kwargs.values()):
        if isinstance(value, int) and abs(value) > MOST_NUMBER:
            raise TooMuch(f"it asks for a width of {value}, at most {MOST_NUMBER} is allowed")


def _check_binop(budget: Budget, operator: str, left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
        if operator in ("*", "**") and bits > MOST_BITS:
            raise TooMuch(f"it makes a number of more than {MOST_BITS} bits")
    elif operator == "*" and (isinstance(left, int) or isinstance(right, int)):
        value, times = (right, left) if isinstance(left, int) else (left, right)
        budget.made(budget.weigh(value) * max(0, times))
    elif operator == "%" and isinstance(left, str):
        _check_percent(budget, left, (right,))
    else:
        budget.weigh(left)
        budget.weigh(right)


def check_percent(format: str) -> None:
    """Raises TooMuch where a format string asks for a width beyond reason, or for one that it does not tell."""
    if _WIDE_PERCENT.search(format):
        raise TooMuch("it formats with a width that is not bounded")


def _check_percent(budget: Budget, format: str, args: tuple[Any, ...]) -> None:
    check_percent(format)
    _reckon_fields(budget, format, format.count("%"), args)


def _check_braces(budget: Budget, format: str, args: tuple[Any, ...]) -> None:
    fields = 0
    for _, name, spec, _ in Formatter().parse(format):
        fields += name is not None
        if spec and ("{" in spec or _WIDE.search(spec)):
            raise TooMuch("it formats with a width that is not bounded")
    _reckon_fields(budget, format, fields, args)


def _reckon_fields(budget: Budget, format: str, fields: int, args: tuple[Any, ...]) -> None:
    budget.made(len(format) + fields * (MOST_NUMBER // 100 + sum(map(budget.weigh, args))))


def _check_method(budget: Budget, name: str, text: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """A method of a text."""
    if name in _UNBOUNDED_METHODS:
        raise SecurityError(f"the method {name} is not available")
    _check_numbers(args, kwargs)
    if name == "replace":
        _multiply_replace(budget, (text, *args), kwargs)
    elif name == "join" and args:
        _check_join(budget, args[0] if isinstance(args[0], (list, tuple, str)) else (), text)
        if not isinstance(args[0], (list, tuple, str)):
            raise TooMuch("it joins what is no list: use the filter join")


def _multiply_replace(budget: Budget, given: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    text = str(given[0])
    old = str(given[1] if len(given) > 1 else kwargs.get("old", ""))
    new = str(given[2] if len(given) > 2 else kwargs.get("new", ""))
    times = text.count(old)
    budget.made(len(text) + times * len(new))
    return given


def _multiply_join(budget: Budget, given: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    items = list(given[0])
    separator = given[1] if len(given) > 1 else kwargs.get("d", "")
    _check_join(budget, items, str(separator))
    return (items, *given[1:])


def _check_join(budget: Budget, items: Any, separator: str) -> None:
    budget.made(budget.weigh(items) + len(items) * len(separator))


def _multiply_indent(budget: Budget, given: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    text = str(given[0])
    width = given[1] if len(given) > 1 else kwargs.get("width", 4)
    budget.made(len(text) + (1 + text.count("\n")) * (width if isinstance(width, int) else len(width)))
    return given


def _multiply_json(budget: Budget, given: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    indent = (given[2] if len(given) > 2 else kwargs.get("indent")) or 0
    value: Any = next(iter(given))
    budget.made(budget.weigh(value) * (1 + (indent if isinstance(indent, int) else len(indent))))
    return given


def _multiply_format(budget: Budget, given: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    _check_percent(budget, str(given[0]), (*given[1:], *kwargs.values()))
    return given


def _multiply_sum(budget: Budget, given: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """Lists are added by copying all so far, once for each."""
    items = list(given[0])
    start = given[2] if len(given) > 2 else kwargs.get("start", 0)
    if not isinstance(start, (int, float)):
        budget.made(budget.weigh(items) * len(items))
    return (items, *given[1:])


_MULTIPLIERS = {
    "replace": _multiply_replace,
    "join": _multiply_join,
    "indent": _multiply_indent,
    "tojson": _multiply_json,
    "format": _multiply_format,
    "sum": _multiply_sum,
}


_TURN, _JOINED, _WEIGHED = "_turn", "_joined", "_weighed"


@pass_context  # which also keeps jinja from calling them while it compiles
def _turn(context: Context, size: int) -> None:
    """One more turn of a loop whose body has so many characters of its own."""
    del context
    budget = _budget.get()
    budget.step()
    budget.made(size)


@pass_context
def _joined(context: Context, parts: tuple[Any, ...]) -> str:
    del context
    budget = _budget.get()
    for part in parts:
        if type(part) is not str:
            budget.weigh(part)
    return budget.take("".join([str(part) for part in parts]))


@pass_context
def _weighed(context: Context, value: Any) -> Any:
    del context
    if type(value) is not str:
        _budget.get().weigh(value)
    return value


class _Hooks(NodeTransformer):
    """Puts the environment's filters where jinja compiles straight to Python."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 (as jinja has it)
        self.generic_visit(node)
        size = sum(len(text.data) for text in node.find_all(nodes.TemplateData))
        node.body.insert(0, nodes.ExprStmt(_filtered(nodes.Const(size), _TURN)))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(nodes.Tuple(node.nodes, "load"), _JOINED)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        sides = [node.expr, *(operand.expr for operand in node.ops)]
        if not any(_is_constant(side) for side in sides):
            node.expr = _filtered(node.expr, _WEIGHED)
            for operand in node.ops:
                operand.expr = _filtered(operand.expr, _WEIGHED)
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return node if _is_constant(node) else _filtered(node, _WEIGHED)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, _WEIGHED) if node.items else node

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return node if node.ctx == "store" or _is_constant(node) else _filtered(node, _WEIGHED)


def _is_constant(node: nodes.Node) -> bool:
    """Whether it is written down in the template, and so no larger than that."""
    items = node.items if isinstance(node, (nodes.List, nodes.Tuple)) else [node]
    return all(isinstance(item, nodes.Const) for item in items)


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
