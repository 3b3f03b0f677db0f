"""``python -m benchmarks.peers``: install the peers, measure them, print the table."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Annotated, NoReturn

from cyclopts import App, Parameter

from benchmarks.peers import llama_cpp_python, llama_server, models, ours, vllm
from benchmarks.peers import results as store
from benchmarks.peers.agreement import agreement
from benchmarks.peers.results import Results
from benchmarks.peers.rounds import measure
from benchmarks.peers.server import Server, running
from benchmarks.peers.table import table as as_table
from benchmarks.peers.versions import machine, versions
from rootstream.bench import workloads as known
from shared.errors import UserError

SERVERS: dict[str, Server] = {
    server.name: server
    for module in (ours, vllm, llama_server, llama_cpp_python)
    for server in module.SERVERS
}  # fmt: skip
ENVIRONMENTS = [vllm.ENVIRONMENT, llama_cpp_python.ENVIRONMENT]

app = App(name="python -m benchmarks.peers", help="Other servers under the same load.", help_format="plaintext")
_Output = Annotated[Path, Parameter(help="The file of results.")]
_RESULTS = Path("results/peers.json")
_FIRST_START_S = 600.0


@app.command
def install(
    *,
    torch_index: Annotated[
        str | None, Parameter(help="Where pip finds a CPU build of torch, if not where it looks anyway.")
    ] = None,
) -> None:
    """Install the peers, each pinned and in an environment of its own, and write the model in their formats.

    Half an hour on two cores, most of it compiling llama.cpp twice; what is there already is left as it is.
    """
    models.write_all()
    for environment in ENVIRONMENTS:
        environment.install(torch_index)
    llama_server.install()
    for server in SERVERS.values():
        print(
            f"{server.name}: a first start, so that what is compiled and cached at first is not measured …", flush=True
        )
        with running(server, _FIRST_START_S) as at:
            print(f"  ready after {at.ready_s:.0f} s", flush=True)


@app.command
def run(
    *,
    rounds: Annotated[int, Parameter(help="Every server is started and measured once a round.")] = 3,
    workloads: Annotated[str, Parameter(help="Names, with commas; all by default, in 4 bits the single stream.")] = "",
    servers: Annotated[str, Parameter(help="Names, with commas.")] = ",".join(SERVERS),
    scale: Annotated[float, Parameter(help="Share of each workload's requests to send.")] = 1.0,
    minutes: Annotated[
        float, Parameter(help="Begin no workload after this long; the same command goes on later.")
    ] = 90,
    seed: int = 0,
    fresh: Annotated[bool, Parameter(help="Forget what the file holds.", negative="")] = False,
    output: _Output = _RESULTS,
) -> None:
    """Measure servers one at a time, in rounds; an interrupted run goes on where it stopped."""
    chosen = [SERVERS[name] for name in _named(servers, list(SERVERS), "servers")]
    names = _named(workloads, known.names(), "workloads")
    wanted = [(server, names or list(server.workloads or known.names())) for server in chosen]
    conditions = Results(machine=machine(), versions=versions(ENVIRONMENTS), scale=scale, seed=seed)
    results = store.opened(output, conditions, fresh=fresh)
    until = time.monotonic() + 60 * minutes
    measure(wanted, rounds, results, output, until, lambda line: print(line, flush=True))
    table(output=output)


@app.command
def table(*, output: _Output = _RESULTS) -> None:
    """Print medians, ratios and agreement from the file of results."""
    results = store.read(output)
    busiest = max((visit.load_before for visit in results.visits), default=0.0)
    print(f"\n{results.machine}; scale {results.scale:g}; load average before starts at most {busiest:g}")
    print(", ".join(f"{name} {version}" for name, version in results.versions.items()))
    print(f"\n{as_table(results, list(SERVERS.values()))}\n")
    for name, lengths in agreement(results, "ours-bf16").items():
        print(f"greedy text in common with ours in bf16, characters: {name}: {lengths}")
    for visit in results.visits:
        for what, error in visit.errors.items():
            print(f"round {visit.round + 1}, {visit.server}, {what}: {error}")


def _named(text: str, possible: list[str], what: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in possible:
            raise UserError(f"--{what}: there is no {name!r}; there are {', '.join(possible)}")
    return names


def _ended(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)  # through the blocks that stop what was started


def main() -> None:
    signal.signal(signal.SIGTERM, _ended)
    try:
        app()
    except UserError as error:
        print(f"benchmarks.peers: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
