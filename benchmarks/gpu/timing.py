"""How long a call keeps the device busy; on a CPU, how long it takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

_WARM_UP = 3
_FLUSHED_BYTES = 2**28  # several times the second-level cache of any GPU: what a kernel reads comes from memory
_AT_ONCE = 20  # most calls launched before the host waits: launching hides behind running
_FEWEST = 3

Call = Callable[[], object]


class Timer:
    """Medians over calls on one device."""

    def __init__(self, device: torch.device, seconds: float, most_calls: int = 100) -> None:
        """``seconds``: about how long to go on measuring one case."""
        self._device = device
        self._seconds = seconds
        self._most_calls = most_calls
        self._flushed = torch.empty(_FLUSHED_BYTES, dtype=torch.int8, device=device) if self.on_cuda else None

    @property
    def on_cuda(self) -> bool:
        return self._device.type == "cuda"

    def seconds(self, run: Call) -> float:
        """The median duration of ``run``, on a GPU with cold caches and by its own clock.

        A call that launches faster than the device works is timed without its launches: the flush before it gives the
        host a head start of some 100 µs.
        """
        for _ in range(_WARM_UP if self.on_cuda else 1):
            run()
        at_once = self._at_once(run) if self.on_cuda else 1
        times: list[float] = []
        begin = time.perf_counter()
        while not times or (len(times) < self._most_calls and time.perf_counter() - begin < self._seconds):
            times += self._on_device(run, at_once) if self.on_cuda else self._on_host(run)
        return statistics.median(times)

    def _at_once(self, run: Call) -> int:
        """How many calls to launch before the host waits: many short ones, few long ones."""
        (one,) = self._on_device(run, 1)
        return max(_FEWEST, min(_AT_ONCE, int(self._seconds / one)))

    def _on_host(self, run: Call) -> list[float]:
        begin = time.perf_counter()
        run()
        return [time.perf_counter() - begin]

    def _on_device(self, run: Call, count: int) -> list[float]:
        assert self._flushed is not None
        marks: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        for _ in range(count):
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            self._flushed.zero_()
            first.record()
            run()
            last.record()
            marks.append((first, last))
        torch.cuda.synchronize()
        return [first.elapsed_time(last) / 1e3 for first, last in marks]


def captured(run: Call) -> Call:
    """``run`` as one CUDA graph. Raises RuntimeError where it cannot be captured."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay
