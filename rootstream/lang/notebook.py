"""States and items as notebooks show them: what was said, with what was generated marked. Pure: values in, HTML out.

Everything that was said is escaped: a model's text can be any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from rootstream.lang.branch import Gathered
from rootstream.lang.calls import CallError, Usage
from rootstream.lang.node import Slot
from rootstream.lang.parts import Close, Gen, Image, Message, Open, Part, Select, Text

if TYPE_CHECKING:
    from rootstream.lang.mapping.items import Finished, Item

_BOX = "font:13px/1.5 system-ui,sans-serif;max-width:60em"
_TEXT = "white-space:pre-wrap;overflow-wrap:anywhere"
_GENERATED = "background:rgba(26,115,232,.16);border-radius:3px;padding:0 2px"
_MESSAGE = "border-left:3px solid rgba(128,128,128,.4);margin:.4em 0;padding:.1em .7em"
_FAINT = "opacity:.65"
_BAD = "color:#d93025"
_ROWS = 100  # items that are drawn, the first of all; errors are counted
_LONGEST = 400  # characters of a value


def state_html(said: Iterable[Part | Slot], values: Mapping[str, Any], usage: Usage, error: object) -> str:
    """A state: what it said, its values by name, its tokens, and what ended it early."""
    body = "".join(_said(one) for one in said)
    rows = "".join(
        f"<tr><td><b>{escape(name)}</b></td><td style='{_TEXT};text-align:left'>{escape(_brief(value))}</td></tr>"
        for name, value in values.items()
    )
    table = f"<table style='margin:.5em 0'>{rows}</table>" if rows else ""
    return f"<div style='{_BOX}'><div style='{_TEXT}'>{body}</div>{table}{_usage(usage)}{_error(error)}</div>"


def known(names: Mapping[str, Slot | Gathered]) -> dict[str, Any]:
    """The values that are there, or their text where it cannot be read. An error stays unseen: only looks are cast."""
    values: dict[str, Any] = {}
    for name, slot in names.items():
        if all(leaf.result is not None for leaf in slot.leaves()):
            try:
                values[name] = slot.value()
            except ValueError:
                values[name] = [leaf.known().text for leaf in slot.leaves()]
    return values


def saved_html(state: Finished) -> str:
    """A state from a resume file, of which no more is known than its text and values."""
    values = {name: state[name] for name in state.names()}
    return state_html((Text(state.text()),), values, state.usage, None)


def item_html(item: Item) -> str:
    head = f"<div style='{_BOX};{_FAINT}'>item {item.index}, {item.seconds:.2f} s: {escape(_brief(item.args))}</div>"
    if item.error is not None or item.state is None:
        return head + f"<div style='{_BOX}'>{_error(item.error)}</div>"
    drawn = getattr(item.state, "_repr_html_", None)
    return head + (drawn() if drawn is not None else saved_html(item.state))


def items_html(items: Sequence[Item]) -> str:
    names = list(dict.fromkeys(name for item in items[:_ROWS] if item.state is not None for name in item.state.names()))
    head = "".join(f"<th>{escape(name)}</th>" for name in ("", "item", *names, "seconds"))
    rows = "".join(_row(item, names) for item in items[:_ROWS])
    failed = sum(not item.is_good for item in items)
    counted = f"{len(items):,} items" + (f", <span style='{_BAD}'>{failed:,} failed</span>" if failed else "")
    more = f", the first {_ROWS} are shown" if len(items) > _ROWS else ""
    usage = _usage(sum((item.usage for item in items), Usage()))
    return f"<div style='{_BOX}'>{counted}{more}<table><tr>{head}</tr>{rows}</table>{usage}</div>"


def _row(item: Item, names: Sequence[str]) -> str:
    cells = [str(item.index), _brief(item.args)]
    if item.state is None:
        wide = f"<td colspan='{len(names) or 1}' style='text-align:left'>{_error(item.error)}</td>"
    else:
        known = values_of(item.state)
        wide = "".join(f"<td style='{_TEXT};text-align:left'>{escape(_shown(known, name))}</td>" for name in names)
    first = "".join(f"<td style='text-align:left'>{escape(cell)}</td>" for cell in cells)
    return f"<tr>{first}{wide}<td>{item.seconds:.2f}</td></tr>"


def values_of(state: Finished) -> dict[str, Any]:
    """Its values, those that cannot be read left out."""
    known: dict[str, Any] = {}
    for name in state.names():
        try:
            known[name] = state[name]
        except (CallError, ValueError, RuntimeError):  # failed, cannot be read as what it should be, or has not run
            continue
    return known


def _shown(values: Mapping[str, Any], name: str) -> str:
    return _brief(values[name]) if name in values else ""


def _said(one: Part | Slot) -> str:
    match one:
        case Text(text):
            return escape(text)
        case Open(role):
            return f"<div style='{_MESSAGE}'><div style='{_FAINT}'>{escape(role)}</div>"
        case Close():
            return "</div>"
        case Message(message):
            role, content = str(message.get("role", "")), message.get("content") or message.get("tool_calls") or ""
            told = content if isinstance(content, str) else _brief(content)
            return f"<div style='{_MESSAGE}'><div style='{_FAINT}'>{escape(role)}</div>{escape(told)}</div>"
        case Image(url):
            return f"<span style='{_FAINT}'>[image {escape(url[:80])}]</span>"
        case Slot():
            return _slot(one)
        case Gen(name=name) | Select(name=name):
            return _pending(name)


def _slot(slot: Slot) -> str:
    name = slot.part.name
    if slot.failure is not None:
        return f"<span style='{_BAD}' title='{escape(name)}'>[{escape(name)}: {escape(str(slot.failure.error))}]</span>"
    if slot.result is None:
        return _pending(name)
    calls = "".join(
        f"<div>{escape(call['function']['name'])}({escape(call['function']['arguments'])})</div>"
        for call in slot.result.tool_calls
    )
    told = f"{name}: {slot.result.finish_reason}, {slot.result.completion_tokens} tokens"
    return f"<span style='{_GENERATED}' title='{escape(told)}'>{escape(slot.result.text)}{calls}</span>"


def _pending(name: str) -> str:
    return f"<span style='{_GENERATED};{_FAINT}'>{{{escape(name)}}}</span>"


def _usage(usage: Usage) -> str:
    if not usage.prompt_tokens:
        return ""
    cached = usage.cached_tokens / usage.prompt_tokens
    return (
        f"<div style='{_FAINT}'>{usage.prompt_tokens:,} prompt tokens, {cached:.0%} cached; "
        f"{usage.completion_tokens:,} generated</div>"
    )


def _error(error: object) -> str:
    return "" if error is None else f"<span style='{_BAD}'>{escape(f'{type(error).__name__}: {error}')}</span>"


def _brief(value: Any) -> str:
    told = repr(value)
    return told if len(told) <= _LONGEST else told[:_LONGEST] + "…"
