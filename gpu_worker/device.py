"""Where the rows live: a device with a queue of its own, or this machine standing in for one.

Everything is launched on one stream in order. The host follows it by marks, and never waits for anything else.
"""

from __future__ import annotations

import time
from typing import Protocol

import torch
from torch import Tensor


class Mark(Protocol):
    """A place in the device's queue."""

    def wait(self) -> None:
        """Until the device has come here."""
        ...

    def since(self, earlier: Mark) -> int:
        """Nanoseconds on the device's clock between an earlier mark and this one; both have been reached."""
        ...


class Queue(Protocol):
    """What the engine needs of a device besides tensors."""

    def mark(self) -> Mark:
        """Everything launched so far is before it."""
        ...

    def host_buffer(self, size: int) -> Tensor:
        """uint8 [size] in host memory that the device reads and writes by itself."""
        ...


class CudaMark:
    """A CUDA event with a time."""

    def __init__(self) -> None:
        self.event = torch.cuda.Event(enable_timing=True)
        self.event.record()

    def wait(self) -> None:
        self.event.synchronize()

    def since(self, earlier: Mark) -> int:
        assert isinstance(earlier, CudaMark)
        return int(earlier.event.elapsed_time(self.event) * 1e6)


class CudaQueue:
    """The current stream of the current CUDA device."""

    def mark(self) -> Mark:
        return CudaMark()

    def host_buffer(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)


class HostMark:
    """A moment: on a host, what was launched has been done."""

    def __init__(self) -> None:
        self.ns = time.perf_counter_ns()

    def wait(self) -> None:
        pass

    def since(self, earlier: Mark) -> int:
        assert isinstance(earlier, HostMark)
        return self.ns - earlier.ns


class HostQueue:
    """The host in place of a device: every launch is done when it returns."""

    def mark(self) -> Mark:
        return HostMark()

    def host_buffer(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8)


def queue_of(device: torch.device) -> Queue:
    return CudaQueue() if device.type == "cuda" else HostQueue()
