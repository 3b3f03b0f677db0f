"""Every setting of every process, defined once: flag, environment variable and configuration key.

``--page-size 1``, ``ROOTSTREAM_PAGE_SIZE=1`` and ``page_size: 1`` in a YAML or TOML file are the same
setting. The only module that reads the environment.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from cyclopts import Group, Parameter, Token
from cyclopts.validators import Number

ENV_PREFIX = "ROOTSTREAM_"
DEFAULT_MODEL = "smollm2-135m-instruct"
DEFAULT_REDIS = "redis://127.0.0.1:6379/0"
DEFAULT_URL = "http://127.0.0.1:30000"

_MODEL = Group("Model and device", sort_key=1)
_SERVER = Group("HTTP server", sort_key=2)
_SCHEDULING = Group("Scheduling and cache", sort_key=4)
_DEPLOYMENT = Group("Processes", sort_key=5)
_ACCESS = Group("Access", sort_key=3)

Quantization = Literal["auto", "none", "q8", "q4"]


def _names(_: Any, tokens: Sequence[Token]) -> tuple[str, ...]:
    """Names from a flag, however often it is there, from a variable or a list, comma separated or not."""
    return tuple(name for token in tokens for part in token.value.split(",") if (name := part.strip()))


_POSITIVE = Number(gte=1)
_NATURAL = Number(gte=0)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one deployment; each process reads those that concern it."""

    model: Annotated[str, Parameter(group=_MODEL)] = DEFAULT_MODEL
    """What to serve: the packaged default, a Hugging Face directory, a GGUF file, or a hub id."""

    served_model_name: Annotated[tuple[str, ...], Parameter(group=_MODEL, converter=_names, negative="")] = ()
    """The name that clients use in `model`; several times, or comma separated, for several names; the model's own name
    by default."""

    device: Annotated[Literal["auto", "cpu", "cuda"], Parameter(group=_MODEL)] = "auto"
    """Where the model runs; auto takes a GPU where there is one."""

    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"], Parameter(group=_MODEL)] = "auto"
    """Precision of weights and KV; auto is bfloat16 where the device computes it quickly, else float32."""

    quantization: Annotated[Quantization, Parameter(group=_MODEL)] = "auto"
    """Weights in fewer bits: auto keeps a quantised GGUF file as it is unless --dtype names a precision; none expands
    it; q8 and q4 round whatever the model has. q8 and q4 are for the CPU."""

    load_format: Annotated[Literal["auto", "dummy"], Parameter(group=_MODEL)] = "auto"
    """auto reads the model's weights. dummy makes random ones of its shape, to measure speed without any file of
    weights: for a directory with config.json and tokenizer.json, a hub id, or a shape such as `shape:llama-3-8b`."""

    context_length: Annotated[int | None, Parameter(group=_MODEL, validator=_POSITIVE)] = None
    """Most tokens of prompt and answer together; the model's own limit by default."""

    kv_memory: Annotated[str, Parameter(group=_MODEL)] = "auto"
    """Memory for the KV pool, such as 2GiB or 512MiB; auto: 85% of what is free on a GPU; on a CPU
    1 GiB, or an eighth of a smaller memory."""

    page_size: Annotated[int, Parameter(group=_MODEL, validator=Number(gte=1, lte=256))] = 16
    """Tokens per KV page: the grain in which prefixes are shared."""

    cuda_graphs: Annotated[bool, Parameter(group=_MODEL, negative="--no-cuda-graphs")] = True
    """On a GPU, launch small steps as CUDA graphs, captured when the worker starts."""

    graph_seconds: Annotated[float, Parameter(group=_MODEL, validator=_POSITIVE)] = 60
    """Time that capturing them may take; steps of sizes that were not captured then are launched in pieces."""

    graph_memory: Annotated[str, Parameter(group=_MODEL)] = "2GiB"
    """Device memory that they may take."""

    threads: Annotated[int | None, Parameter(group=_MODEL, validator=_POSITIVE)] = None
    """CPU threads of the worker; all cores by default."""

    host: Annotated[str, Parameter(group=_SERVER)] = "127.0.0.1"
    """Address to listen on."""

    port: Annotated[int, Parameter(group=_SERVER, validator=Number(gte=1, lte=65535))] = 30000
    """Port to listen on."""

    max_body: Annotated[str, Parameter(group=_SERVER)] = "10MiB"
    """Largest body of a request."""

    max_connections: Annotated[int, Parameter(group=_SERVER, validator=_POSITIVE)] = 4096
    """Open connections beyond which an HTTP process closes those that are idle, and then refuses new ones."""

    drain_timeout: Annotated[float, Parameter(group=_SERVER, validator=_NATURAL)] = 30
    """Seconds that running answers may take when a front door is told to stop; new requests are refused meanwhile."""

    tool_format: Annotated[
        Literal[
            "auto",
            "hermes",
            "llama3-json",
            "mistral",
            "mistral-args",
            "pythonic",
            "qwen3-coder",
            "glm",
            "deepseek-v3",
            "deepseek-v3.1",
        ],
        Parameter(group=_SERVER),
    ] = "auto"
    """How the model writes calls of tools; auto goes by its chat template, and takes hermes where that says nothing."""

    reasoning_format: Annotated[Literal["auto", "none", "think", "mistral", "seed-oss"], Parameter(group=_SERVER)] = (
        "auto"
    )
    """Between which marks the model thinks aloud, which becomes `reasoning_content` of its answers; auto goes by its
    chat template, none leaves it in their content."""

    embedding_pooling: Annotated[Literal["last", "mean"], Parameter(group=_SERVER)] = "last"
    """How the vectors of a text's tokens become one at /v1/embeddings, where a request does not say: last takes that of
    its last token, which alone has seen all others."""

    resume_grace: Annotated[float, Parameter(group=_SERVER, validator=_NATURAL)] = 60
    """Seconds for which a resumable request goes on after its client was cut off, waiting for it to come back."""

    response_keep: Annotated[int, Parameter(group=_SERVER, validator=_NATURAL)] = 3600
    """How long, in seconds, responses of /v1/responses are kept, to be fetched and continued; 0: none is."""

    context_keep: Annotated[int, Parameter(group=_SERVER, validator=_POSITIVE)] = 600
    """Seconds for which a context of /v1/contexts is kept after it was used last."""

    context_bytes: Annotated[str, Parameter(group=_SERVER)] = "256MiB"
    """How much the contexts of one tenant may take in Redis, such as 1GiB: beyond it the oldest are dropped."""

    resume_keep: Annotated[int, Parameter(group=_SERVER, validator=_POSITIVE)] = 600
    """Seconds for which the answer to a resumable or background request is kept after its end."""

    api_keys: Annotated[str | None, Parameter(group=_ACCESS)] = dataclasses.field(default=None, repr=False)
    """Keys that clients must send, comma separated, each `name:key` or a bare key; every name is a tenant. Others on
    this machine can read command lines: better in the environment, or in a file."""

    api_keys_file: Annotated[Path | None, Parameter(group=_ACCESS)] = None
    """A file of such keys, one a line; read again when it changes."""

    admin_key: Annotated[str | None, Parameter(group=_ACCESS)] = dataclasses.field(default=None, repr=False)
    """The key for operators' routes, such as /metrics and /flush_cache; better in the environment, or in a file."""

    admin_key_file: Annotated[Path | None, Parameter(group=_ACCESS)] = None
    """A file that holds it; several lines are several keys."""

    admin_port: Annotated[int | None, Parameter(group=_ACCESS, validator=Number(gte=1, lte=65535))] = None
    """A port of their own for operators' routes, which then leave the clients' port."""

    admin_host: Annotated[str, Parameter(group=_ACCESS)] = "127.0.0.1"
    """Address of --admin-port."""

    allow_unauthenticated: Annotated[bool, Parameter(group=_ACCESS, negative="")] = False
    """Serve without any key on an address that other machines reach: for networks where everybody may."""

    published_host: Annotated[str | None, Parameter(group=_ACCESS)] = None
    """Where clients really reach this server, if something else listens for it: the address that a container's port or
    a proxy is published on. What may be served without a key, and under which names, goes by it instead of --host."""

    allowed_hosts: Annotated[str | None, Parameter(group=_ACCESS)] = None
    """Names beside localhost that clients may call this server, comma separated; `*`: any. On a loopback address others
    are refused, because a web page could have made its own name lead here."""

    cors_origins: Annotated[str | None, Parameter(group=_ACCESS)] = None
    """Web pages that may use this server from their readers' browsers: their origins, comma separated, such as
    `https://chat.example`; `*`: all. None by default."""

    share_cache: Annotated[bool, Parameter(group=_ACCESS, negative="")] = False
    """Let tenants reuse each other's cached prefixes. Whoever measures how fast an answer begins can then guess what
    others have asked."""

    max_queue: Annotated[int, Parameter(group=_SCHEDULING, validator=_POSITIVE)] = 2048
    """Waiting requests beyond which new ones are refused with 429."""

    max_running: Annotated[int | None, Parameter(group=_SCHEDULING, validator=_POSITIVE)] = None
    """Most requests computed at once; 64 on a CPU, 256 on a GPU by default."""

    chunk_tokens: Annotated[int | None, Parameter(group=_SCHEDULING, validator=_POSITIVE)] = None
    """Most prompt tokens per step: long prompts are computed in chunks beside decoding.
    256 on a CPU, 4096 on a GPU by default."""

    policy: Annotated[Literal["lpm", "fcfs"], Parameter(group=_SCHEDULING)] = "lpm"
    """Order of the queue: longest cached prefix first (aged, so that nobody starves), or first come first served."""

    radix_cache: Annotated[bool, Parameter(group=_SCHEDULING, negative="--no-radix-cache")] = True
    """Reuse the KV of shared prefixes."""

    lease: Annotated[int, Parameter(group=_SCHEDULING, validator=_POSITIVE)] = 16
    """KV slots granted to a decoding request ahead of time; 1 runs in lock-step with the scheduler,
    and on a CPU computes each answer to the last bit as if it were alone: the same tokens every time, for tests."""

    tokenizers: Annotated[int, Parameter(group=_DEPLOYMENT, validator=_POSITIVE)] = 1
    """HTTP and tokenizer processes to start, all behind one port."""

    detokenizers: Annotated[int, Parameter(group=_DEPLOYMENT, validator=_POSITIVE)] = 1
    """Detokenizer processes to start."""

    redis: Annotated[str | None, Parameter(group=_DEPLOYMENT)] = dataclasses.field(default=None, repr=False)
    """URL of a Redis or Valkey server, 6.2 or later: redis://host:6379/0, with TLS rediss://…; `serve` starts an
    embedded one by default."""

    redis_user: Annotated[str | None, Parameter(group=_DEPLOYMENT)] = None
    """The user to be there, as its access rules have it."""

    redis_password_file: Annotated[Path | None, Parameter(group=_DEPLOYMENT)] = None
    """A file that holds the password: better than in the URL, which others may see."""

    redis_ca_file: Annotated[Path | None, Parameter(group=_DEPLOYMENT)] = None
    """Certificates of who may vouch for a server with TLS; those of the system by default."""

    namespace: Annotated[str, Parameter(group=_DEPLOYMENT)] = "rootstream"
    """Prefix of all keys, so that several deployments can share one Redis."""

    replica: Annotated[str | None, Parameter(group=_DEPLOYMENT)] = None
    """Name of this process among its role's replicas; the host name by default."""

    cache_dir: Annotated[Path, Parameter(group=_DEPLOYMENT)] = Path("~/.cache/rootstream")
    """Where converted tokenizers and downloaded models are kept."""

    step_timeout: Annotated[float, Parameter(group=_DEPLOYMENT, validator=_POSITIVE)] = 60
    """Seconds after which a process whose work does not move ends itself, to be started again: never before 16 times
    what such work took lately."""

    otel_endpoint: Annotated[str | None, Parameter(group=_DEPLOYMENT)] = None
    """Where traces go: an OpenTelemetry collector that takes OTLP over HTTP, such as http://localhost:4318. By default
    what OTEL_EXPORTER_OTLP_ENDPOINT says; without either there are none."""

    pulse_file: Annotated[Path | None, Parameter(group=_DEPLOYMENT, show=False)] = None
    """Touched with every pulse while this process is ready: a container's health check looks at its age."""

    parent: Annotated[int | None, Parameter(group=_DEPLOYMENT, show=False)] = None
    """Process id of the local launcher: end when it ends."""

    log_level: Annotated[Literal["debug", "info", "warning", "error"], Parameter(group=_DEPLOYMENT)] = "info"
    """Least severe log line to print."""

    log_format: Annotated[Literal["auto", "text", "json"], Parameter(group=_DEPLOYMENT)] = "auto"
    """Log lines for people or for machines; auto looks whether stderr is a terminal."""

    @property
    def redis_url(self) -> str:
        return self.redis or DEFAULT_REDIS

    @property
    def replica_name(self) -> str:
        return self.replica or socket.gethostname()

    @property
    def cache_path(self) -> Path:
        return self.cache_dir.expanduser()


WORKER = "0"  # the one worker's name in stream names, until there are several


def named_config() -> Path | None:
    """The file of settings that the environment names."""
    named = os.environ.get(ENV_PREFIX + "CONFIG")
    return Path(named) if named else None


def given_variables() -> list[str]:
    """The names of all ROOTSTREAM_ variables that are set."""
    return sorted(name for name in os.environ if name.startswith(ENV_PREFIX))


def to_environment(settings: Settings) -> dict[str, str]:
    """The environment that makes a child process read exactly these settings."""
    defaults = Settings()
    environment: dict[str, str] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value != getattr(defaults, field.name):
            environment[ENV_PREFIX + field.name.upper()] = ",".join(value) if isinstance(value, tuple) else str(value)
    return environment


class TraceTarget(NamedTuple):
    """Where traces are sent."""

    url: str
    protocol: str
    is_setting: bool  # of ours; the environment may speak to all programs of a machine


_OTLP = "OTEL_EXPORTER_OTLP_"


def trace_target(settings: Settings, environment: Mapping[str, str] | None = None) -> TraceTarget | None:
    """Where traces go, None for nowhere: by the setting, then by the variables that OpenTelemetry defines.

    https://opentelemetry.io/docs/specs/otel/protocol/exporter/ says what they mean.
    """
    given = os.environ if environment is None else environment
    if given.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    protocol = given.get(_OTLP + "TRACES_PROTOCOL") or given.get(_OTLP + "PROTOCOL") or "http/protobuf"
    if settings.otel_endpoint:
        return TraceTarget(_traces_of(settings.otel_endpoint), "http/protobuf", is_setting=True)
    if "otlp" not in given.get("OTEL_TRACES_EXPORTER", "otlp"):
        return None
    if url := given.get(_OTLP + "TRACES_ENDPOINT"):
        return TraceTarget(url, protocol, is_setting=False)
    if base := given.get(_OTLP + "ENDPOINT"):
        return TraceTarget(_traces_of(base), protocol, is_setting=False)
    return None


def _traces_of(base: str) -> str:
    path = "/v1/traces"
    return base if base.rstrip("/").endswith(path) else base.rstrip("/") + path


def runtime_base() -> Path:
    """Where a user's private, short-lived directories belong: XDG_RUNTIME_DIR, else the temporary directory."""
    named = os.environ.get("XDG_RUNTIME_DIR")
    if named and os.access(named, os.W_OK | os.X_OK):
        return Path(named)
    return Path(tempfile.gettempdir())


def parse_bytes(text: str) -> int:
    """'2GiB', '512 MiB', '1.5G' or a plain number of bytes. Raises ValueError with an example."""
    units = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
    compact = text.strip().lower().replace(" ", "")
    digits = compact.rstrip("bikmgt")
    unit = compact[len(digits) :].removesuffix("b").removesuffix("i")
    try:
        value = float(digits) * units[unit]
    except (ValueError, KeyError):
        raise ValueError(f"{text!r} is no size: write for example 2GiB, 512MiB or 1073741824") from None
    if not value >= 1 or value > 2**60:
        raise ValueError(f"{text!r} is out of range for a size in memory")
    return int(value)


class Door(NamedTuple):
    """Where a client finds the server, and the key that it shows there."""

    url: str
    api_key: str | None


def client_environment(environment: Mapping[str, str] | None = None) -> Door:
    """What the environment tells clients, as the command line reads it."""
    given = os.environ if environment is None else environment
    return Door(given.get(ENV_PREFIX + "URL") or DEFAULT_URL, given.get(ENV_PREFIX + "API_KEY") or None)


def without_settings(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment with no ROOTSTREAM_ variable: the base for a child that gets its own."""
    source = os.environ if environment is None else environment
    return {name: value for name, value in source.items() if not name.startswith(ENV_PREFIX)}


def set_default_environment(name: str, value: str) -> None:
    """Set a variable for libraries that read it when they are imported, unless the user has set it."""
    os.environ.setdefault(name, value)
