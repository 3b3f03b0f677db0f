"""The wire messages, and nothing else: what one process may say to another.

Every message is a frozen, positional msgspec Struct with an integer tag, encoded as one version byte
plus MessagePack. Data per row travels in columns: little-endian arrays packed into ``bytes`` (see
:mod:`shared.columns`), never as one object per token. One stream entry carries a whole step's worth
for one destination.

Identity is (request id, token index): ids are random 63-bit integers made by tokenizer_svc, index 0
is the first generated token. Every hop is at-least-once, so every reader drops what it already has.
"""

from __future__ import annotations

import enum
import secrets
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec

from shared.layout import FLOAT32, INT32, ITEMS, UINT8, UINT64, Columns, flaw
from shared.undecodable import UNDECODABLE

VERSION = 4

Natural = Annotated[int, msgspec.Meta(ge=0)]
"""Fits a uint64, and so a column of them."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
"""Fits an int32, and so a column of them."""

Positive = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Small = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Finite = Annotated[float, msgspec.Meta(ge=-1e15, le=1e15)]
"""Neither infinite nor NaN: no bound is true of that."""

Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Wire(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of all messages: immutable and encoded by position."""


class Finish(enum.IntEnum):
    """Why a request ended. Travels as one byte per row; NONE while it goes on."""

    NONE = 0
    STOP = 1  # an end-of-sequence token, a stop token id or a stop string
    LENGTH = 2  # max_tokens reached
    ABORT = 3  # cancelled by a client or an operator


class Failure(enum.StrEnum):
    """Why a request failed instead of finishing. The front door maps each to an HTTP status."""

    QUEUE_FULL = "queue_full"
    TOO_LARGE = "too_large"
    TIMEOUT = "timeout"  # its deadline passed
    POISONOUS = "poisonous"  # the worker died of it, twice
    WORKER = "worker_error"
    UNAVAILABLE = "unavailable"


class Jump(enum.StrEnum):
    """Which tokens of a constrained answer are appended without a draw."""

    CANONICAL = "canonical"  # text with one way on, in the tokens that the tokenizer itself would take
    EXACT = "exact"  # only where a single token is legal: the same output as without
    OFF = "off"


class PauseMode(enum.StrEnum):
    """What becomes of requests under way while nothing is computed."""

    ABORT = "abort"  # they end
    RETRACT = "retract"  # they go back to the queue, and their KV can be dropped
    IN_PLACE = "in_place"  # they keep their rows and their KV


class Pooling(enum.IntEnum):
    """How the vectors of a prompt's tokens become one."""

    LAST = 1  # that of the last token
    MEAN = 2


class Scoring(Wire, frozen=True):
    """Which log-probabilities a request wants: the model's own, before penalties, bias, temperature and grammar.

    Positions count from the start of the prompt. The token at 0 has no score: nothing precedes it.
    """

    start: Positive  # position of the first token that is scored; the prompt's length: generated ones only
    top: Count = 0  # so many of the likeliest tokens besides
    ids: tuple[Count, ...] = ()  # and these, whatever they are


class Grammar(Wire, frozen=True):
    """The grammar that a request's output obeys. The worker reads its compiled form from the streams' server."""

    key: str  # see shared.grammar
    jump: Jump = Jump.CANONICAL


class Sampling(Wire, frozen=True):
    """How the worker picks tokens. All values are validated, all defaults resolved, at the door."""

    max_tokens: Count  # 0: the prompt is computed, and nothing drawn
    temperature: Finite = 1.0  # 0 is greedy
    top_k: Count = 0  # 0 is off
    top_p: Ratio = 1.0
    min_p: Ratio = 0.0
    frequency_penalty: Finite = 0.0
    presence_penalty: Finite = 0.0
    repetition_penalty: Finite = 1.0
    seed: Natural = 0  # unsigned 64 bits; draws are a function of (seed, token index)
    logit_bias: tuple[tuple[Count, Finite], ...] = ()
    min_tokens: Count = 0  # stop tokens are masked before this many tokens
    stop_token_ids: tuple[Count, ...] = ()  # includes the model's end-of-sequence ids unless ignored
    grammar: Grammar | None = None
    scoring: Scoring | None = None
    pooling: Pooling | None = None  # the prompt's vector is wanted


class Scores(Wire, frozen=True):
    """Natural log-probabilities of N tokens of a request, at positions ``first``, ``first`` + 1, … of its sequence.

    K is ``Scoring.top``, A the number of ``Scoring.ids``.
    """

    id: Natural
    first: Count
    chosen: bytes  # float32 [N]: of the tokens themselves
    ranks: bytes  # int32 [N]: how many tokens are as likely or likelier, itself included
    top_ids: bytes = b""  # int32 [N * K], likeliest first
    top: bytes = b""  # float32 [N * K]
    asked: bytes = b""  # float32 [N * A], in the order of the ids


class Vector(Wire, frozen=True):
    """What a prompt is to the model: its last hidden states, after the final norm, pooled."""

    id: Natural
    values: bytes  # float32 [hidden size]


# --- `requests`: tokenizer_svc and detokenizer_svc -> scheduler_svc -----------------------------


class Generate(Wire, frozen=True, tag=1):
    """A validated request. Stored whole in the `live` hash before it is announced."""

    id: Natural
    input_ids: bytes  # int32
    sampling: Sampling
    namespace: str  # cache salt: requests share KV only within one namespace
    priority: Small  # higher goes first
    reply_to: str  # the tokenizer_svc replica that holds the connection
    detokenizer: str  # the detokenizer_svc replica that turns its tokens into text
    arrived: Finite  # unix seconds
    tenant: str = ""  # who shares the machine fairly with others
    deadline: Finite = 0.0  # unix seconds after which nobody wants an answer; 0: never
    grace_s: Finite = 0.0  # how long it goes on after its front door is gone
    trace: str = ""  # its place in a trace, as a W3C traceparent; empty: not traced
    names: tuple[str, ...] = ()  # by which its client may end it, besides the id
    group: str = ""  # a hint: requests of one group share a prefix, and go beside each other in the queue
    context: str = (
        ""  # the name under which its KV stays cached until Release, where there is room; empty: as any other
    )


class Abort(Wire, frozen=True, tag=2):
    """End a request early: its client left, a stop string matched, or somebody cancelled it.

    With ``notify`` the scheduler answers the owner with Aborted, so that the stream gets its end.
    """

    id: Natural
    notify: bool = False
    message: str = ""  # why, for the client


class Flush(Wire, frozen=True, tag=3):
    """Drop every cached page that no running request holds; answered with Flushed."""

    nonce: Natural
    reply_to: str


class Restate(Wire, frozen=True, tag=4):
    """Write all tokens of these requests into the step log again, as Restated: a reader of it has lost some."""

    ids: bytes  # uint64


class Pause(Wire, frozen=True, tag=5):
    """Compute nothing until Resume; requests are taken and wait. Answered with Paused once nothing is computed."""

    nonce: Natural
    reply_to: str
    mode: PauseMode = PauseMode.ABORT


class Resume(Wire, frozen=True, tag=6):
    """Go on; answered with Paused."""

    nonce: Natural
    reply_to: str


class AbortMany(Wire, frozen=True, tag=7):
    """End several requests as by Abort with ``notify``: all that fit what is given.

    Those of a tenant are those on its account, or on one that begins with its name and a slash.
    """

    tenant: str | None = None
    name: str | None = None
    message: str = ""


class Release(Wire, frozen=True, tag=8):
    """Nobody goes on from these contexts: their KV, as far as nothing else needs it, is the first to be evicted.

    Unknown ones are ignored. A context whose request runs is not kept at its end.
    """

    contexts: tuple[str, ...]


ToScheduler = Generate | Abort | Flush | Restate | Pause | Resume | AbortMany | Release


# --- `plans:{w}`: scheduler_svc -> gpu_worker -----------------------------------------------------


class Admit(Wire, frozen=True):
    """A row joins the worker's persistent batch.

    ``input_ids`` is prompt plus what was generated before a preemption or restart;
    ``prompt_len`` says where the generated part starts. KV of the first ``cached_len`` tokens is
    already in the pool, in the first pages of the row's page table.
    """

    id: Natural
    input_ids: bytes  # int32
    prompt_len: Count
    cached_len: Count
    sampling: Sampling
    pages: bytes  # int32: the page table up to cached_len (cached_len is a whole number of pages)
    unscored: Count = 0  # position of the first token whose scores are wanted and not known; without scoring: 0
    trace: str = ""  # that of its Generate


class Open(Wire, frozen=True, tag=10):
    """A new epoch for one incarnation of the worker: forget every row, answer with Opened."""

    epoch: Natural
    incarnation: Natural


class Plan(Wire, frozen=True, tag=11):
    """One diff to the worker's batch, applied atomically and in order of ``seq``.

    Applied in this order: releases, admits, grants, chunks. A worker runs at most one plan that
    carries chunks per step, and always executes the chunks it was given.

    Grants extend a row: its page table grows by ``grant_page_counts[i]`` of ``grant_pages``, and KV of
    positions below ``grant_limits[i]`` may then be written. A chunk computes tokens
    ``[start, start + length)`` of the row's input; a row whose input is complete decodes by itself
    for as long as it has granted slots.
    """

    epoch: Natural
    seq: Natural
    releases: bytes = b""  # uint64
    admits: tuple[Admit, ...] = ()
    grant_ids: bytes = b""  # uint64
    grant_limits: bytes = b""  # int32, slots in all (not an increment)
    grant_page_counts: bytes = b""  # int32
    grant_pages: bytes = b""  # int32
    chunk_ids: bytes = b""  # uint64
    chunk_starts: bytes = b""  # int32
    chunk_lengths: bytes = b""  # int32


ToWorker = Open | Plan


# --- `steps:{w}`: gpu_worker -> scheduler_svc and every detokenizer_svc ---------------------------


class ModelCard(Wire, frozen=True):
    """What a worker serves: everything the others need to know of the model and its limits."""

    model: str
    architecture: str
    dtype: str
    device: str
    vocab_size: Positive
    context_length: Positive  # prompt + generated tokens, at most
    page_size: Positive
    num_pages: Positive  # usable KV pages
    max_running: Positive  # rows in one step
    chunk_tokens: Positive  # prefill budget per step
    precision: str = ""  # weights and KV in words, for people
    structured: bool = False  # whether output can be constrained: its vocabulary is known byte by byte

    @property
    def kv_tokens(self) -> int:
        """How many tokens the KV pool holds."""
        return self.num_pages * self.page_size


class Hello(Wire, frozen=True, tag=20):
    """A worker has started, with an empty KV pool, and waits for Open."""

    incarnation: Natural
    card: ModelCard


class Opened(Wire, frozen=True, tag=21):
    """The worker forgot all rows and obeys this epoch from here on.

    A fence in the log: readers count Steps only when their epoch is that of the last Opened.
    """

    epoch: Natural
    incarnation: Natural


class Step(Wire, frozen=True, tag=22):
    """One forward pass (or only an acknowledgement of plans, then without rows).

    Row i produced ``counts[i]`` tokens, the first of which has token index ``firsts[i]``; their ids are
    concatenated in ``tokens``. Rows with a finish code have left the batch. The KV of a row's last
    ``pending[i]`` tokens does not exist yet: 1 for the token just drawn, more where tokens were forced after it. A row
    without new tokens says how far those have come.
    """

    epoch: Natural
    seq: Natural
    plan: Natural  # seq of the last plan applied before this step
    ids: bytes = b""  # uint64
    firsts: bytes = b""  # int32
    counts: bytes = b""  # int32
    tokens: bytes = b""  # int32
    finishes: bytes = b""  # uint8, Finish
    pending: bytes = b""  # int32; empty where all are 1
    forced: bytes = b""  # uint8, one per token: 1 where the grammar left no choice; empty where none is
    errors: tuple[tuple[Natural, str], ...] = ()  # (request id, message): rows that ended in an error
    computed: Natural = 0  # tokens that went through the model
    forward_us: Natural = 0  # duration of the step
    gap_us: Natural = 0  # time since the previous step ended, while there was work
    scores: tuple[Scores, ...] = ()  # of tokens in this or earlier steps, and of prompts; those of a row come in order
    vectors: tuple[Vector, ...] = ()


class Restated(Wire, frozen=True, tag=23):
    """What a request's tokens are from the first one on, as the scheduler knows them: the answer to Restate.

    Written into the step log by the scheduler. Whoever has these tokens drops them, as ever.
    """

    id: Natural
    tokens: bytes  # int32
    finish: Annotated[int, msgspec.Meta(ge=0, le=int(max(Finish)))] = 0  # Finish
    scores: Scores | None = None  # all of them
    vector: Vector | None = None


FromWorker = Hello | Opened | Step


# --- `detok:{d}`: tokenizer_svc -> one detokenizer_svc -----------------------------------------


class StopRegex(Wire, frozen=True):
    """A regular expression that ends a text, compiled: an automaton over UTF-8 bytes that matches it from end to end.

    State 0 is dead, state 1 is the start.
    """

    pattern: Annotated[str, msgspec.Meta(min_length=1)]
    classes: bytes  # uint8 [256]: the class of each byte
    transitions: bytes  # uint16 [S, C], row-major
    accepting: bytes  # uint8 [S]: 0 or 1


class Track(Wire, frozen=True, tag=30):
    """Turn this request's tokens into text and send it to ``reply_to``."""

    id: Natural
    reply_to: str
    context: bytes  # int32: the last few prompt ids, for decoders that look back
    stop: tuple[Annotated[str, msgspec.Meta(min_length=1)], ...] = ()
    include_stop: bool = False  # keep a matched stop string in the text
    stop_token_ids: tuple[Count, ...] = ()  # not shown in the text when they end the request
    skip_special_tokens: bool = True
    max_tokens: Count = 0
    again: bool = False  # text may have been lost: send all of it once more
    prompt_len: Count = 0
    scored_from: Count = 0  # position of the first token that is scored; 0: none is
    wants_vector: bool = False
    trace: str = ""  # that of its Generate
    stop_regex: tuple[StopRegex, ...] = ()  # texts that end it as stop strings do; ``matched`` is the pattern


class Untrack(Wire, frozen=True, tag=31):
    """Nobody waits for this request any more."""

    id: Natural


ToDetokenizer = Track | Untrack


# --- `texts:{t}`: detokenizer_svc and scheduler_svc -> one tokenizer_svc ------------------------


class Texts(Wire, frozen=True, tag=40):
    """Text of one step for one replica. Row i covers ``counts[i]`` tokens from index ``firsts[i]``.

    Text may be shorter than its tokens (half a character, or what may become a stop string, is held
    back and comes with a later row). ``matched`` is the stop string, pattern or stop token id of a STOP. Text is a
    function of the tokens, so a reader cuts off what it has by token index and character offset, wherever rows begin.

    There are ``scores`` for each row whose request wants any, in the order of the rows: of its tokens, and with the
    token of index 0, or where there is none, of the prompt.
    """

    ids: bytes  # uint64
    firsts: bytes  # int32
    counts: bytes  # int32
    tokens: bytes  # int32
    texts: tuple[str, ...]
    finishes: bytes  # uint8, Finish
    matched: tuple[str | int | None, ...]
    offsets: bytes  # int32, per row: characters of the request's text before this row
    forced: bytes = b""  # int32, per row: tokens up to its end that the grammar forced; empty where none is
    scores: tuple[Scores, ...] = ()  # see below
    vectors: tuple[Vector, ...] = ()  # come with the end of their request
    stepped: Finite = 0.0  # unix seconds at which the last of the steps was written; 0: not known


class Admitted(Wire, frozen=True, tag=41):
    """These requests started; ``cached`` tokens of each prompt came from the radix cache."""

    ids: bytes  # uint64
    cached: bytes  # int32


class Aborted(Wire, frozen=True, tag=42):
    """The request ended because of an Abort with ``notify``."""

    id: Natural
    message: str = ""  # that of the Abort


class Failed(Wire, frozen=True, tag=43):
    """The request ended with an error before or during generation."""

    id: Natural
    failure: Failure
    message: str


class Flushed(Wire, frozen=True, tag=44):
    """Answer to Flush: how many pages were freed."""

    nonce: Natural
    pages: Natural


class Paused(Wire, frozen=True, tag=45):
    """Answer to Pause and to Resume: whether the scheduler is pausing now."""

    nonce: Natural
    mode: PauseMode | None


ToFrontDoor = Texts | Admitted | Aborted | Failed | Flushed | Paused

Message = (
    Generate | Abort | Flush | Restate | Pause | Resume | AbortMany | Release | Open | Plan | Hello | Opened | Step
    | Restated | Track | Untrack | Texts | Admitted | Aborted | Failed | Flushed | Paused
)  # fmt: skip

_FINISHES = {"finishes": max(Finish)}
TABLES: Mapping[type, tuple[Columns, ...]] = {
    Scores: (
        Columns(
            {"chosen": FLOAT32, "ranks": INT32}, wide=({"top_ids": INT32, "top": FLOAT32}, {"asked": FLOAT32})
        ),
    ),
    Vector: (Columns({"values": FLOAT32}),),
    Generate: (Columns({"input_ids": INT32}),),
    Restate: (Columns({"ids": UINT64}),),
    Admit: (Columns({"input_ids": INT32}), Columns({"pages": INT32})),
    Plan: (
        Columns({"releases": UINT64}),
        Columns(
            {"grant_ids": UINT64, "grant_limits": INT32, "grant_page_counts": INT32},
            {"grant_pages": INT32},
            "grant_page_counts",
        ),
        Columns({"chunk_ids": UINT64, "chunk_starts": INT32, "chunk_lengths": INT32}),
    ),
    Step: (
        Columns(
            {"ids": UINT64, "firsts": INT32, "counts": INT32, "finishes": UINT8, "pending": INT32},
            {"tokens": INT32, "forced": UINT8},
            "counts",
            optional=("pending", "forced"),
            codes=_FINISHES,
        ),
    ),
    Restated: (Columns({"tokens": INT32}),),
    Track: (Columns({"context": INT32}),),
    Texts: (
        Columns(
            {
                "ids": UINT64, "firsts": INT32, "counts": INT32, "texts": ITEMS, "finishes": UINT8, "matched": ITEMS,
                "offsets": INT32, "forced": INT32,
            },
            {"tokens": INT32},
            "counts",
            optional=("forced",),
            codes=_FINISHES,
        ),
    ),
    Admitted: (Columns({"ids": UINT64, "cached": INT32}),),
}  # fmt: skip
"""The columns of each message that has any."""

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_card_decoder = msgspec.msgpack.Decoder(ModelCard)


class ProtocolError(ValueError):
    """Bytes that are not a message of this version."""


def encode(message: Any) -> bytes:
    """One version byte, then MessagePack."""
    return bytes((VERSION,)) + _encoder.encode(message)


def decode(payload: bytes) -> Message:
    """Inverse of :func:`encode`. Raises ProtocolError on anything else."""
    _check_version(payload)
    try:
        message = _decoder.decode(memoryview(payload)[1:])
    except UNDECODABLE as error:
        raise ProtocolError(str(error)) from error
    _check_columns(message)
    for part in _parts(message):
        _check_columns(part)
    return message


def decode_card(payload: bytes) -> ModelCard:
    """A model card, encoded by :func:`encode`."""
    _check_version(payload)
    try:
        return _card_decoder.decode(memoryview(payload)[1:])
    except UNDECODABLE as error:
        raise ProtocolError(str(error)) from error


def _check_version(payload: bytes) -> None:
    if not payload or payload[0] != VERSION:
        found = payload[0] if payload else "nothing"
        raise ProtocolError(f"message version {found}, expected {VERSION}: all processes must be of one release")


def _parts(message: Message) -> Iterable[Wire]:
    """What has columns of its own inside a message."""
    match message:
        case Plan():
            return message.admits
        case Step() | Texts():
            return (*message.scores, *message.vectors)
        case Restated():
            return filter(None, (message.scores, message.vector))
        case Track():
            return message.stop_regex
        case _:
            return ()


def _check_columns(message: Wire) -> None:
    for columns in TABLES.get(type(message), ()):
        if reason := flaw(message, columns):
            raise ProtocolError(f"{type(message).__name__}: {reason}")
    if isinstance(message, StopRegex) and not _holds_together(message):
        raise ProtocolError("StopRegex: its columns are no automaton")


def _holds_together(regex: StopRegex) -> bool:
    states, cells = len(regex.accepting), len(regex.transitions)
    if len(regex.classes) != 256 or states < 2 or cells != 2 * states * (max(regex.classes) + 1):
        return False
    return max(memoryview(regex.transitions).cast("H")) < states


def new_request_id() -> int:
    """A random positive 63-bit id: fits int64 and uint64 columns alike."""
    return secrets.randbits(62) | (1 << 62)
