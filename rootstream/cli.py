"""The command line: `rootstream serve | chat | bench | doctor`.

Owns the commands' names, flags and help; each command's work is in a module of its own, imported only when
it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number

from rootstream import __version__
from shared.config import Settings, settings_sources
from shared.errors import UserError

DEFAULT_URL = "http://127.0.0.1:30000"

_Url = Annotated[str, Parameter(help="Where the server is.")]
_ApiKey = Annotated[
    str | None,
    Parameter(env_var="ROOTSTREAM_API_KEY", help="The key to send; better in the environment, as ROOTSTREAM_API_KEY."),
]
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
    """All commands; `serve` reads its settings from ``settings_file`` too, where one is named."""
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
    app.command(serve, config=settings_sources(settings_file))
    app.command(chat)
    app.command(bench)
    app.command(run_batch, config=settings_sources(settings_file))
    app.command(doctor)
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
) -> None:
    """Talk to a running server in the terminal, streaming.

    Ctrl-C stops an answer, Ctrl-D ends, `/help` lists commands. What comes through a pipe is one question, or belongs
    to the one that is given: `rootstream chat "What is this about?" < letter.txt`. Its answer is printed plain.
    """
    from rootstream.chat import session

    options = {"model": model, "max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    given = {name: value for name, value in options.items() if value is not None}
    raise SystemExit(session.run(session.Server(url, api_key), system, given, prompt))


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
    seed: Annotated[int, Parameter(help="Another seed makes other prompts, which no cache has seen.")] = 0,
    output: Annotated[Path | None, Parameter(help="File to write the figures to, as JSON.")] = None,
) -> None:
    """Measure a running server, ours or any with an OpenAI-compatible API, with named workloads.

    Prints throughput, time to first token (TTFT), time between tokens (ITL) and cache hit rate.
    """
    from rootstream.bench import run

    raise SystemExit(run.against(url, list(workloads), seed=seed, output=output, api_key=api_key))


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
    del config
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
    target = None if url is None else run.Target(url, api_key)
    raise SystemExit(run.run(wish, target, settings))


def doctor(
    model_or_path: Annotated[
        str | None, Parameter(show_default=False, help="The model to look for; the packaged default by default.")
    ] = None,
    /,
) -> None:
    """Report on this machine: versions, CPU, memory, GPU, the model, the embedded Redis server.

    Exits with 1 if something that serving needs is missing.
    """
    from rootstream import doctor as examination

    settings = Settings() if model_or_path is None else Settings(model=model_or_path)
    raise SystemExit(examination.run(settings))


def _named_file(arguments: Sequence[str]) -> Path | None:
    """The file that --config names: needed before the rest can be read."""
    for position, argument in enumerate(arguments):
        if argument == "--config" and position + 1 < len(arguments):
            return _existing(arguments[position + 1])
        if argument.startswith("--config="):
            return _existing(argument.partition("=")[2])
    return None


def _existing(name: str) -> Path:
    path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(f"--config {name}: no such file")
    if path.suffix not in {".toml", ".yaml", ".yml"}:
        raise UserError(f"--config {name}: must end in .yaml, .yml or .toml")
    return path
