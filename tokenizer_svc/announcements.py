"""How a sequence is announced to the others, the first time and again. Pure values; knows nothing of streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from shared import columns
from shared.protocol import Generate, Track


class Announcement(NamedTuple):
    """What the others are told of a choice."""

    generate: Generate
    track: Track


def context_of(track: Track) -> Sequence[int]:
    """The last few ids of a prompt."""
    return columns.ints(track.context)


def again(announcement: Announcement, reply_to: str, detokenizer: str) -> Announcement:
    """The same once more, perhaps by another front door and for another detokenizer: all text is to be sent again."""
    generate, track = announcement
    return Announcement(
        msgspec.structs.replace(generate, reply_to=reply_to, detokenizer=detokenizer),
        msgspec.structs.replace(track, reply_to=reply_to, again=True),
    )
