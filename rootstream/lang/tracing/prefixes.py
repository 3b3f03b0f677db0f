"""What several programs say alike at their beginning. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from rootstream.lang.parts import Gen, Part, Select, Text


def common_beginning(several: Sequence[Sequence[Part]]) -> tuple[Part, ...]:
    """The longest beginning of all of them up to the first generation; the last text may be cut anywhere."""
    said = [_joined(parts) for parts in several]
    common: list[Part] = []
    for beside in zip(*said, strict=False):
        first = beside[0]
        if all(part == first for part in beside):
            common.append(first)
            continue
        if texts := [part.text for part in beside if isinstance(part, Text)]:
            shared = common_text(texts) if len(texts) == len(beside) else ""
            common += [Text(shared)] if shared else []
        break
    return tuple(common)


def common_text(texts: Sequence[str]) -> str:
    """The longest beginning of all of them."""
    first, last = min(texts), max(texts)  # those between them begin alike as well
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    return first[:same]


def characters(parts: Sequence[Part]) -> int:
    """Of text, whole messages included as they are written."""
    return sum(len(part.text) if isinstance(part, Text) else len(str(getattr(part, "message", ""))) for part in parts)


def _joined(parts: Sequence[Part]) -> list[Part]:
    """What comes before the first generation, with adjacent texts as one: where they were cut tells nothing."""
    joined: list[Part] = []
    for part in takewhile(lambda part: not isinstance(part, Gen | Select), parts):
        match part, joined[-1:]:
            case Text(text), [Text(before)]:
                joined[-1] = Text(before + text)
            case _:
                joined.append(part)
    return joined
