"""How a sequence is announced to the others, the first time and again. Pure values; knows nothing of streams."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from shared import columns
from shared.protocol import Generate, Track
from tokenizer_svc.draft import Draft

_CONTEXT_IDS = 8  # prompt ids that a detokenizer looks back at


class Announcement(NamedTuple):
    """What the others are told of a choice."""

    generate: Generate
    track: Track


def again(announcement: Announcement, reply_to: str, detokenizer: str) -> Announcement:
    """The same once more, perhaps by another front door and for another detokenizer: all text is to be sent again."""
    generate, track = announcement
    return Announcement(
        msgspec.structs.replace(generate, reply_to=reply_to, detokenizer=detokenizer),
        msgspec.structs.replace(track, reply_to=reply_to, again=True),
    )


class Sender(NamedTuple):
    """From whom, and for whom."""

    replica: str  # the front door that holds the connection
    detokenizer: str
    tenant: str
    grace_s: float  # how long it goes on without its front door


def announcement(id: int, draft: Draft, namespace: str, sender: Sender, now: float) -> Announcement:
    """What the others are told of a draft; ``namespace`` is that of its cached prefixes, ``now`` in unix seconds."""
    display = draft.display
    ids = columns.int32(draft.input_ids)
    generate = Generate(
        id=id,
        input_ids=ids,
        sampling=draft.sampling,
        namespace=namespace,
        priority=draft.priority,
        reply_to=sender.replica,
        detokenizer=sender.detokenizer,
        arrived=now,
        tenant=sender.tenant,
        deadline=now + draft.timeout_s if draft.timeout_s else 0.0,
        grace_s=sender.grace_s,
    )
    track = Track(
        id=id,
        reply_to=sender.replica,
        context=ids[-4 * _CONTEXT_IDS :],
        stop=display.stop,
        include_stop=display.include_stop,
        stop_token_ids=display.stop_token_ids,
        skip_special_tokens=display.skip_special_tokens,
        max_tokens=draft.sampling.max_tokens,
    )
    return Announcement(generate, track)
