"""The scheduler's view of a request: token counts, pages and where it is on its way. No logic.

Positions count from the start of the prompt: output token i stands at ``prompt_len + i``. The KV of a
token exists once the token has gone through the model, so that of the last tokens, those still ``pending``, does not.
"""

from __future__ import annotations

import enum
from array import array
from dataclasses import dataclass, field

from scheduler_svc.groups import Group
from scheduler_svc.node import Node
from scheduler_svc.pages import page_array
from scheduler_svc.tenants import Tenant
from shared.protocol import Generate, Pooling, Vector
from shared.scores import GrowingScores, first_scored


class State(enum.Enum):
    """Where a request is on its way."""

    WAITING = enum.auto()  # in the queue, or parked behind another's prefill
    PREFILLING = enum.auto()  # a row of the worker; not all of its input is planned
    DECODING = enum.auto()  # a row of the worker; all of its input is planned
    PREEMPTED = enum.auto()  # released, but the worker may not know yet
    ENDED = enum.auto()


@dataclass(slots=True, eq=False)
class Request:
    """One live request."""

    generate: Generate
    submitted: float  # unix seconds, when this process learnt of it
    order: int  # of submission: a smaller one is older
    tenant: Tenant = field(default_factory=Tenant)
    group: Group | None = None
    state: State = State.WAITING
    output: array[int] = field(default_factory=lambda: array("i"))  # token ids generated so far
    pending: int = 1  # output tokens at the end whose KV does not exist yet
    announced: bool = False  # the client was told that it started
    told: int = 0  # and how many tokens of its prompt were cached
    prefilled: int = 0  # prompt tokens charged to the tenant, or found in the cache
    billed: int = 0  # output tokens charged to the tenant
    suspected: bool = False  # of having killed the worker
    blamed: int = 0  # deaths of the worker that can have been nobody else's doing
    returns: bool = False  # was a row that got tokens when the worker died
    context: str = ""  # the name under which its KV is to be kept at its end
    spent: bool = False  # nobody will go on from it: its KV is to go first
    scores: GrowingScores | None = None  # as far as they are known; None where none are wanted
    vector: Vector | None = None

    # as a row of the worker, from admission on
    input_ids: bytes = b""  # prompt, and the output before the admission
    planned: int = 0  # tokens of the input whose KV is computed or planned
    limit: int = 0  # KV positions granted
    low_at: int = 0  # output length from which on more should be granted
    pages: array[int] = field(default_factory=page_array)  # the page table
    cached: int = 0  # leading pages found in the tree at admission
    shared: int = 0  # leading pages whose tokens are in the tree
    duplicates: array[int] = field(default_factory=page_array)  # of those, pages the tree has others for
    node: Node | None = None  # where the shared part ends, pinned
    chunk_seq: int = 0  # the last plan that carried a chunk of it
    release_seq: int = 0  # the plan that released it

    id: int = 0
    prompt_len: int = 0
    max_positions: int = 0  # KV positions it can ever need

    def __post_init__(self) -> None:
        self.id = self.generate.id
        self.context = self.generate.context
        self.prompt_len = len(self.generate.input_ids) // 4
        sampling = self.generate.sampling
        self.max_positions = self.prompt_len + max(1, sampling.max_tokens) - 1
        if sampling.scoring is not None:
            self.scores = GrowingScores(self.id, first_scored(sampling.scoring, self.prompt_len))

    @property
    def input_len(self) -> int:
        return len(self.input_ids) // 4

    @property
    def computed(self) -> int:
        """Positions known to be computed or planned."""
        planned = self.planned
        if planned < len(self.input_ids) // 4:
            return planned
        return max(planned, self.prompt_len + len(self.output) - self.pending)

    @property
    def wanted(self) -> int:
        """Positions that must be computed before another token can be drawn."""
        return max(self.planned, self.prompt_len + len(self.output) - 1)

    @property
    def is_cleared(self) -> bool:
        """It has got a token since it was admitted."""
        return self.prompt_len + len(self.output) > len(self.input_ids) // 4

    @property
    def reusable(self) -> int:
        """Leading tokens that need not be computed if their KV is there: all but those whose logits are wanted.

        A token is scored by the logits of the one before it; what is known already is not wanted again.
        """
        least = self.prompt_len + len(self.output) - 1
        if self.scores is not None:
            least = min(least, self.scores.end - 1)
        if self.wants_vector:
            last = self.generate.sampling.pooling is Pooling.LAST
            least = min(least, self.prompt_len - 1 if last else 0)
        return least

    @property
    def wants_vector(self) -> bool:
        return self.vector is None and self.generate.sampling.pooling is not None

    def tokens(self) -> bytes:
        """Prompt and output so far, packed."""
        return self.generate.input_ids + self.output.tobytes()

    def restart(self) -> None:
        """Forget the row: the worker has lost it, and all pages with it."""
        self.state = State.WAITING
        self.input_ids = b""
        self.pending = 1
        self.planned = self.limit = self.low_at = self.cached = self.shared = self.chunk_seq = self.release_seq = 0
        self.pages, self.duplicates, self.node = page_array(), page_array(), None
        if self.scores is not None:
            self.scores.forget_ahead()


def seniority(request: Request) -> tuple[int, int]:
    """Smaller for the row to keep: a higher priority, an older request."""
    return -request.generate.priority, request.order
