"""``python -m benchmarks.gpu.section NAME OPTIONS OUT``: one section in a process of its own.

Appends a line of JSON to OUT with every measurement, so that what was found before a crash is kept.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from benchmarks.gpu.options import Options
from benchmarks.gpu.rows import Row, show
from benchmarks.gpu.sections import sections


def main(name: str, options: Options, out: Path) -> None:
    section = next(section for section in sections(options.sizes) if section.name == name)
    encode = msgspec.json.encode

    def emit(row: Row) -> None:
        with out.open("ab") as file:
            file.write(encode(row) + b"\n")
        print(f"  {row.key}: {show(row.value, row.unit)}", flush=True)

    section.measure(options, emit)


if __name__ == "__main__":
    main(sys.argv[1], msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=Options), Path(sys.argv[3]))
