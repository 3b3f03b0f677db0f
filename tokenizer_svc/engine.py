"""What the HTTP side asks of the rest of the system; :mod:`tokenizer_svc.service` does it over the streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, NamedTuple, Protocol

from shared.protocol import ModelCard, PauseMode
from shared.tokenizer import Tokenizer
from tokenizer_svc.access.tenants import Caller
from tokenizer_svc.answers import Answer
from tokenizer_svc.draft import Draft
from tokenizer_svc.limits import Limits
from tokenizer_svc.metrics import Metrics
from tokenizer_svc.outlet import Outlets
from tokenizer_svc.reasoning.formats import Marks
from tokenizer_svc.resumable.entries import Record
from tokenizer_svc.structure import Structure
from tokenizer_svc.tools.formats import ToolFormat


class Keeping(NamedTuple):
    """How a request goes on without the one who sent it."""

    grace_s: float  # after its front door is gone
    record: Callable[[Answer], Record]  # what is kept of it


class Engine(Protocol):
    """The model behind the front door."""

    models: tuple[str, ...]
    """The names that clients may use, of one and the same model."""

    fingerprint: str
    """Of what answers: another one where the same request may get another answer."""

    created: int
    """Unix seconds at which this process started."""

    limits: Limits
    metrics: Metrics
    outlets: Outlets

    @property
    def model(self) -> str:
        """The first of its names."""
        ...

    @property
    def pooling(self) -> Literal["last", "mean"]:
        """How vectors are pooled where a request does not say."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """Raises ApiError 503 while it is being loaded."""
        ...

    @property
    def tool_format(self) -> ToolFormat:
        """How the model writes calls of tools. Raises as ``tokenizer``."""
        ...

    @property
    def reasoning(self) -> Marks | None:
        """Between which marks the model thinks aloud; None: it does not, or nobody wants it told apart. Raises as
        ``tokenizer``.
        """
        ...

    async def furnished(self) -> None:
        """Wait for the tokenizer, but not for long."""
        ...

    @property
    def is_stopping(self) -> bool:
        """Whether this process is about to end."""
        ...

    def ready_card(self) -> ModelCard:
        """The model's limits. Raises ApiError 503 while a process that generation needs is missing."""
        ...

    @property
    def retry_after_s(self) -> int:
        """When somebody who was refused because the queue is full had better come again."""
        ...

    def check_room(self, caller: Caller) -> None:
        """Raises ApiError 429 while as many requests wait as may, and none of them should go for the caller's."""
        ...

    def missing(self) -> list[str]:
        """What is not ready yet, for people; nothing when requests can be served."""
        ...

    @property
    def is_loading(self) -> bool:
        """Whether the model, or what else takes its time, is not there yet."""
        ...

    def progress(self) -> Mapping[str, str]:
        """How far the processes are that are still loading, by role."""
        ...

    def states(self) -> Mapping[str, object]:
        """Every process by role, with its state."""
        ...

    def info(self) -> Mapping[str, object]:
        """The model card and the settings of this process."""
        ...

    async def submit(
        self, drafts: Sequence[Draft], *, shares_id: bool, caller: Caller, keeping: Keeping | None = None
    ) -> Answer:
        """Announce the sequences. Raises ApiError 503 where nobody is there to take them, 400 for a grammar that
        is known to be bad; one that turns out so later ends the answer.
        """
        ...

    def compiled(self, key: str) -> bytes | None:
        """The compiled form of a grammar that some answer obeys, None while it is not known."""
        ...

    def borrowed(self, structure: Structure | None, client: str) -> AbstractAsyncContextManager[None]:
        """Have a grammar, if there is one, in its compiled form for a while. Raises ApiError 400 for a bad one."""
        ...

    def abandon(self, answer: Answer) -> None:
        """Nobody waits for this answer any more: free what it holds."""
        ...

    async def abort(self, id: int, tenant: str | None, message: str = "") -> None:
        """End a request of any front door with finish_reason "abort", if it is this tenant's; None: whosever it is.

        ``message`` is for the one who waits for its answer.
        """
        ...

    async def abort_many(self, name: str | None, tenant: str | None, message: str = "") -> None:
        """End all requests of a tenant, of any front door, that their client gave this name; None: any."""
        ...

    @property
    def paused(self) -> str:
        """How generation is paused; empty where it is not."""
        ...

    async def pause(self, mode: PauseMode) -> None:
        """Compute nothing from here on; requests wait. Raises ApiError 503 where that is not known to be so."""
        ...

    async def resume(self) -> None:
        """Go on after ``pause``. Raises ApiError 503."""
        ...

    async def flush(self) -> int:
        """Drop the cached pages that nobody uses; how many. Raises ApiError 503 after some seconds."""
        ...

    async def exposition(self) -> bytes:
        """The metrics of all processes in Prometheus's text format."""
        ...
