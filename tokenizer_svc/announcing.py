"""From a validated draft to what the others are told of it. Pure: time is an argument."""

from __future__ import annotations

from typing import NamedTuple

from shared import columns
from shared.protocol import Generate, Track
from shared.scores import first_scored
from tokenizer_svc.announcements import Announcement
from tokenizer_svc.draft import Draft

_CONTEXT_IDS = 32  # prompt ids that a detokenizer looks back at, and whoever wants to know how a prompt ends


class Sender(NamedTuple):
    """From whom, and for whom."""

    replica: str  # the front door that holds the connection
    detokenizer: str
    tenant: str
    grace_s: float  # how long it goes on without its front door
    trace: str = ""  # see Generate


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
        names=draft.names,
        trace=sender.trace,
        group=draft.group,
        context=draft.context,
    )
    prompt_len, scoring = len(draft.input_ids), draft.sampling.scoring
    track = Track(
        id=id,
        reply_to=sender.replica,
        context=ids[-4 * _CONTEXT_IDS :],
        stop=display.stop,
        include_stop=display.include_stop,
        stop_token_ids=display.stop_token_ids,
        stop_regex=display.stop_regex,
        skip_special_tokens=display.skip_special_tokens,
        max_tokens=draft.sampling.max_tokens,
        prompt_len=prompt_len,
        scored_from=0 if scoring is None else first_scored(scoring, prompt_len),
        wants_vector=draft.sampling.pooling is not None,
        trace=sender.trace,
    )
    return Announcement(generate, track)
