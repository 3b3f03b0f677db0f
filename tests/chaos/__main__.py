"""``python -m tests.chaos``: faults without end against a deployment under load. See docs/faults.md."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import signal
import sys
import time
from pathlib import Path

from rich.console import Console

from tests.chaos.deployment import KV_MEMORY, MEMBERS, deployed
from tests.chaos.faults import Kind, plan
from tests.chaos.report import fault_table, finding_table, print_tables, stall_table, stream_table, wide_console
from tests.chaos.run import Chaos, Options, Result, keep


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="of requests and faults; random by default")
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--kinds", default=None, help=f"of faults, with commas: {', '.join(Kind)}")
    parser.add_argument("--clients", type=int, default=48)
    parser.add_argument(
        "--resumable",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="every other request is resumable, and continued where its connection broke",
    )
    parser.add_argument("--out", type=Path, default=Path(".chaos"), help="where histories with violations are left")
    given = parser.parse_args()
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    kinds = frozenset(Kind(kind.strip()) for kind in given.kinds.split(",")) if given.kinds else frozenset(Kind)
    faults = plan(seed, given.faults, MEMBERS, kinds)
    options = Options(seed, faults, clients=given.clients, resumable=given.resumable)
    console = wide_console()
    console.print(f"chaos: SEED={seed} FAULTS={given.faults}, {given.clients} clients, {', '.join(sorted(kinds))}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, leaving nothing behind
    return asyncio.run(_run(options, console, given.out / f"seed-{seed}"))


async def _run(options: Options, console: Console, out: Path) -> int:
    began = time.monotonic()

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False)

    async with deployed("--kv-memory", KV_MEMORY) as deployment:
        say(f"the deployment is ready after {time.monotonic() - began:.1f} s")
        result = await Chaos(deployment, options, say).run()
        _show(result, console)
        if result.findings:
            keep(result, out)
            (out / "log").write_bytes(deployment.log.read_bytes())
            say(f"\n{len(result.findings)} violations; histories, faults and log are in {out}")
            return 1
    say(f"\nnothing lost, doubled or changed: {sum(result.outcomes.values())} streams, {len(result.faults)} faults")
    return 0


def _show(result: Result, console: Console) -> None:
    tables = [
        fault_table(result.faults, result.stalls.get("under faults", [])),
        stream_table(result.outcomes),
        stall_table(result.stalls, result.began),
    ]
    if result.findings:
        tables.append(finding_table(result.findings))
    print_tables(console, tables)


if __name__ == "__main__":
    sys.exit(main())
