"""The command line: `rootstream serve | chat | bench | run-batch | doctor`.

Owns the commands' names, flags and help; each command's work is in a module of its own, imported only when
it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Group, Parameter
from cyclopts.validators import Number

from rootstream import __version__
from shared.config import DEFAULT_URL, Settings
from shared.errors import UserError
from shared.sources import settings_sources

_LOAD = Group("Load", sort_key=1)
_RESULT = Group("Results", sort_key=2)

_Url = Annotated[str, Parameter(env_var="ROOTSTREAM_URL", help="Where the server is.")]
_ApiKey = Annotated[
    str | None,
    Parameter(env_var="ROOTSTREAM_API_KEY", help="The key to send; better in the environment, as ROOTSTREAM_API_KEY."),
]
_ApiKeyFile = Annotated[Path | None, Parameter(help="A file that holds it.")]
_Config = Annotated[Path | None, Parameter(help="A YAML or TOML file with settings.")]
_EPILOGUE = "Begin with `rootstream serve`, then run `rootstream chat` in a second terminal."


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `rootstream`. Exit code 2 for what only the user can mend."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        application(_named_file(given))(given)
    except UserError as error:
        print(f"rootstream: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def application(settings_file: Path | None = None) -> App:
    """All commands; they read what is not said otherwise from ``settings_file``, where one is named."""
    app = App(
        name="rootstream",
        help="Serve language models over HTTP: a radix-tree KV cache and continuous batching, in separate processes "
        "over Redis streams.",
        help_epilogue=_EPILOGUE,
        help_format="markdown",
        version=f"rootstream {__version__}",
        version_flags=["--version"],
        help_flags=["--help", "-h"],
        default_parameter=Parameter(show_env_var=False),
    )
    for command, with_settings in ((serve, True), (chat, False), (bench, False), (run_batch, True), (doctor, True)):
        name = command.__name__.replace("_", "-")
        app.command(command, name=name, config=settings_sources(settings_file, name, with_settings=with_settings))
    return app


def serve(
    model_or_path: Annotated[
        str | None,
        Parameter(
            show_default=False,
            help="What to serve, as `--model`: a Hugging Face directory, a GGUF file, a hub id such as "
            "`Qwen/Qwen3-0.6B`, or nothing for the packaged default.",
        ),
    ] = None,
    /,
    *,
    config: _Config = None,
    settings: Settings = Settings(),
) -> None:
    """Serve a model over HTTP on this machine.

    Starts an embedded Redis-compatible server on a private Unix socket and one of each process: worker, scheduler,
    detokenizer, HTTP front door. It ends in a banner with the URL. Ctrl-C or SIGTERM stops everything once the answers
    under way are finished, a second one at once. SIGUSR1 restarts one process after the other, which breaks no answer.

    Every option can also be an environment variable (`ROOTSTREAM_PAGE_SIZE=1` is `--page-size 1`) or a key of the file
    that `--config` or `ROOTSTREAM_CONFIG` names (`page_size: 1`). Options outrank the environment, the environment
    outranks the file.
    """
    del config  # read before the command line was, by main
    from rootstream import launch

    if model_or_path is not None:
        settings = dataclasses.replace(settings, model=model_or_path)
    raise SystemExit(launch.serve(settings))


def chat(
    prompt: Annotated[
        str | None, Parameter(show_default=False, help="A question to answer and leave; nothing for a conversation.")
    ] = None,
    /,
    *,
    url: _Url = DEFAULT_URL,
    api_key: _ApiKey = None,
    api_key_file: _ApiKeyFile = None,
    model: Annotated[str | None, Parameter(help="Which of its models to talk to; the first by default.")] = None,
    system: Annotated[str | None, Parameter(help="The system prompt.")] = None,
    max_tokens: Annotated[
        int | None, Parameter(validator=Number(gte=1), help="Most tokens of an answer; as many as fit by default.")
    ] = None,
    temperature: Annotated[
        float | None,
        Parameter(validator=Number(gte=0, lte=2), help="0 always takes the likeliest token; the server's by default."),
    ] = None,
    seed: Annotated[int | None, Parameter(help="Makes answers repeatable.")] = None,
    config: _Config = None,
) -> None:
    """Talk to a running server in the terminal, streaming.

    Ctrl-C stops an answer, Ctrl-D ends, `/help` lists commands. What comes through a pipe is one question, or belongs
    to the one that is given: `rootstream chat "What is this about?" < letter.txt`. Its answer is printed plain.
    """
    del config
    from rootstream.chat import session

    options = {"model": model, "max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    given = {name: value for name, value in options.items() if value is not None}
    raise SystemExit(session.run(session.Server(url, _key(api_key, api_key_file)), system, given, prompt))


def bench(
    *workloads: Annotated[
        Literal["shared-prefix", "distinct", "single", "chat", "json"],
        Parameter(
            help="Which to run; all by default. *shared-prefix*: 32 requests with one system prompt of about 1,500 "
            "tokens, 48 tokens out, 8 at once. *distinct*: 32 requests, 256 tokens in, 64 out, 8 at once. "
            "*single*: one after the other, 128 in, 128 out. *chat*: 8 conversations of 4 turns. "
            "*json*: 8 answers to one JSON schema with long keys, 4 at once."
        ),
    ],
    url: _Url = DEFAULT_URL,
    api_key: _ApiKey = None,
    api_key_file: _ApiKeyFile = None,
    model: Annotated[
        str | None, Parameter(group=_LOAD, help="Which of its models; the first at /v1/models by default.")
    ] = None,
    dataset: Annotated[
        Path | None,
        Parameter(
            group=_LOAD,
            help="A file of requests instead: JSONL with `prompt` or `messages`, a batch's lines, ShareGPT's shape.",
        ),
    ] = None,
    prompt_tokens: Annotated[
        int | None,
        Parameter(group=_LOAD, validator=Number(gte=1), help="Random prompts of so many tokens instead."),
    ] = None,
    prefix_tokens: Annotated[
        int, Parameter(group=_LOAD, validator=Number(gte=0), help="How many of these a group of prompts shares.")
    ] = 0,
    prefix_groups: Annotated[int, Parameter(group=_LOAD, validator=Number(gte=1), help="How many groups.")] = 1,
    requests: Annotated[
        int | None, Parameter(group=_LOAD, validator=Number(gte=1), help="How many requests, where not all.")
    ] = None,
    max_tokens: Annotated[
        int | None, Parameter(group=_LOAD, validator=Number(gte=1), help="Most tokens of an answer.")
    ] = None,
    concurrency: Annotated[
        int | None,
        Parameter(group=_LOAD, validator=Number(gte=1), help="Most requests at once; the workload's own by default."),
    ] = None,
    rate: Annotated[
        float | None,
        Parameter(
            group=_LOAD, validator=Number(gt=0), help="Requests a second, at random times (Poisson), however many run."
        ),
    ] = None,
    warm_up: Annotated[
        int, Parameter(group=_LOAD, validator=Number(gte=0), help="Requests before each workload that do not count.")
    ] = 1,
    seed: Annotated[int, Parameter(group=_LOAD, help="Another seed makes other prompts, which no cache has seen.")] = 0,
    slo: Annotated[
        str | None,
        Parameter(
            group=_RESULT,
            help="Bounds in ms, such as `ttft:500,itl:50,e2e:5000`: goodput is the rate of requests that keep them.",
        ),
    ] = None,
    output: Annotated[Path | None, Parameter(group=_RESULT, help="File to write the figures to, as JSON.")] = None,
    baseline: Annotated[Path | None, Parameter(group=_RESULT, help="Such a file, to compare the figures with.")] = None,
    compare: Annotated[
        tuple[Path, Path] | None, Parameter(group=_RESULT, help="Compare two such files; nothing is run.")
    ] = None,
    config: _Config = None,
) -> None:
    """Measure a running server, ours or any with an OpenAI-compatible API.

    Prints throughput, time to first token (TTFT), time between tokens (ITL), time to the end (E2E) and cache hit rate.
    How the server wants to be asked is found out: token ids or text, completions or chats.
    """
    del config
    from rootstream.bench import datasets, run
    from rootstream.bench import slo as bounds

    if compare is not None:
        raise SystemExit(run.compared(*compare))
    if sum((bool(workloads), dataset is not None, prompt_tokens is not None)) > 1:
        raise UserError("--dataset, --prompt-tokens and named workloads exclude each other: give one of them")
    if prefix_tokens and (prompt_tokens is None or prefix_tokens > prompt_tokens):
        raise UserError(f"--prefix-tokens {prefix_tokens} must be part of --prompt-tokens: give that, and no less")
    plan = run.Plan(
        names=list(workloads),
        dataset=dataset,
        shape=None if prompt_tokens is None else datasets.Shape(prompt_tokens, prefix_tokens, prefix_groups),
        requests=requests,
        max_tokens=max_tokens,
        concurrency=concurrency,
        rate=rate,
        warm_up=warm_up,
        slo=bounds.ANY if slo is None else bounds.parse(slo),
        seed=seed,
        model=model,
    )
    key = _key(api_key, api_key_file)
    raise SystemExit(run.against(url, plan, output=output, baseline=baseline, api_key=key))


def run_batch(
    *,
    input_file: Annotated[
        Path,
        Parameter(
            name=["--input-file", "-i"],
            allow_leading_hyphen=True,
            help="The requests, one JSON object a line; `-`: standard input.",
        ),
    ],
    output_file: Annotated[
        Path,
        Parameter(
            name=["--output-file", "-o"],
            allow_leading_hyphen=True,
            help="Where results go; `-`: standard output. What is in the file already is not asked again.",
        ),
    ],
    error_file: Annotated[
        Path | None, Parameter(help="Where requests that failed go instead, with the reasons.")
    ] = None,
    url: Annotated[
        str | None, Parameter(env_var="ROOTSTREAM_URL", help="The server to ask; one of the run's own by default.")
    ] = None,
    api_key: _ApiKey = None,
    api_key_file: _ApiKeyFile = None,
    concurrency: Annotated[
        int | None,
        Parameter(
            validator=Number(gte=1),
            help="Most requests under way at once; by default a quarter more than the server computes at once, "
            "or 64 where it does not say.",
        ),
    ] = None,
    order: Annotated[
        Literal["completion", "input"], Parameter(help="Order of the results; *input* sorts the file at the end.")
    ] = "completion",
    retry_failed: Annotated[bool, Parameter(negative="", help="Ask again what failed in an earlier run.")] = False,
    tries: Annotated[
        int, Parameter(validator=Number(gte=1), help="How often a request that breaks off or ends in a 5xx is asked.")
    ] = 4,
    patience: Annotated[
        float,
        Parameter(
            validator=Number(gte=0),
            help="Seconds for which a server that serves nothing, being full or away, is waited for.",
        ),
    ] = 600,
    request_timeout: Annotated[
        float, Parameter(validator=Number(gt=0), help="Seconds that one answer may take.")
    ] = 3600,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="", help="Show no progress.")] = False,
    config: _Config = None,
    settings: Settings = Settings(),
) -> None:
    """Answer a file of requests in OpenAI's batch format.

    Each line of input is `{"custom_id": …, "method": "POST", "url": "/v1/chat/completions", "body": {…}}`, for any
    path that the server has; each line of output has its answer, or its error. Input is checked before anything is
    sent. The same command goes on where an earlier run was ended, however that was. Without `--url` a server is started
    for the run, to which the options from "Model and device" on belong.

    Exit code: 0 all answered well, 1 some failed, 2 nothing could be asked, 3 the server went away, 130 interrupted.
    """
    from rootstream.batch import run
    from rootstream.batch.asking import Patience

    wish = run.Wish(
        source=input_file,
        output=output_file,
        errors=error_file,
        order=order,
        retry_failed=retry_failed,
        concurrency=concurrency,
        patience=Patience(tries, patience, request_timeout),
        quiet=quiet,
    )
    if url is not None and (idle := _given_by_flags(settings, config)):
        raise UserError(f"--url names a server that runs already: {', '.join(idle)} would change nothing")
    target = None if url is None else run.Target(url, _key(api_key, api_key_file))
    raise SystemExit(run.run(wish, target, settings))


def doctor(
    model_or_path: Annotated[
        str | None, Parameter(show_default=False, help="The model to look for, as `--model`.")
    ] = None,
    /,
    *,
    url: Annotated[
        str | None,
        Parameter(env_var="ROOTSTREAM_URL", help="A server to look at; whoever listens on `--port` by default."),
    ] = None,
    api_key: _ApiKey = None,
    api_key_file: _ApiKeyFile = None,
    json: Annotated[bool, Parameter(negative="", help="Report as JSON.")] = False,
    config: _Config = None,
    settings: Settings = Settings(),
) -> None:
    """Report on this machine and what `serve` would find on it with the same settings.

    Versions, CPU, memory, GPU, the model, disk, Redis, ports, containers, a running server. What is wrong is marked,
    with what to do about it. Exit code: 0 all well, 1 something that serving needs is missing.
    """
    del config
    from rootstream.doctor import report

    if model_or_path is not None:
        settings = dataclasses.replace(settings, model=model_or_path)
    raise SystemExit(report.run(settings, url, _key(api_key, api_key_file), as_json=json))


def _given_by_flags(settings: Settings, config: Path | None) -> list[str]:
    """The flags that made settings what they are; the environment and a file say things to other commands, too."""
    _, bound, _ = application(config).parse_args(["run-batch", "-i", "-", "-o", "-"])
    unflagged = bound.arguments.get("settings", Settings())
    names = [field.name for field in dataclasses.fields(Settings)]
    return [f"--{name.replace('_', '-')}" for name in names if getattr(settings, name) != getattr(unflagged, name)]


def _key(given: str | None, file: Path | None) -> str | None:
    """The key to send. Raises UserError."""
    if given is not None or file is None:
        return given
    try:
        key = file.expanduser().read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--api-key-file {file} cannot be read: {error}") from None
    if not key or len(key.split()) != 1:
        raise UserError(f"--api-key-file {file} must hold one key and nothing else")
    return key


def _named_file(arguments: Sequence[str]) -> Path | None:
    """The file that --config names: needed before the rest can be read."""
    for position, argument in enumerate(arguments):
        if argument == "--config" and position + 1 < len(arguments):
            return Path(arguments[position + 1])
        if argument.startswith("--config="):
            return Path(argument.partition("=")[2])
    return None
