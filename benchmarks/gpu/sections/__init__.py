"""Which sections there are, in the order of their weight: what time runs out for is last.

Each runs in a process of its own (benchmarks/gpu/section.py), which may crash or be stopped without harm to the others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from benchmarks.gpu.options import Emit, Options
from benchmarks.gpu.sections import choosing, decoder, device, kernels, server, sharing
from benchmarks.gpu.sizes import Sizes


class Section(NamedTuple):
    """A part of the benchmark and the most seconds it may take, its start included."""

    name: str
    limit_s: float
    measure: Callable[[Options, Emit], None]


def sections(sizes: Sizes) -> list[Section]:
    """All of them. The first shape is the one that most aims are about."""
    first, *others = sizes.shapes
    return [
        Section("device", 60, device.measure),
        _decoder(first, 120),
        Section("sharing", 90, partial(sharing.measure, shape=first)),
        _server(first, 200, thorough=True),
        *(_decoder(name, 75) for name in others),
        Section("kernels", 90, partial(kernels.measure, shape=first)),
        Section("choosing", 60, partial(choosing.measure, shape=first)),
        *(_server(name, 90, thorough=False) for name in others),
    ]


def _decoder(name: str, limit_s: float) -> Section:
    return Section(f"decoder/{name}", limit_s, partial(decoder.measure, shape=name))


def _server(name: str, limit_s: float, *, thorough: bool) -> Section:
    return Section(f"server/{name}", limit_s, partial(server.measure, shape=name, thorough=thorough))
