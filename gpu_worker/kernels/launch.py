"""A compiled kernel together with its argument array and the threads it runs on."""

from __future__ import annotations

import numpy as np

from gpu_worker.kernels.compiling import Body, Compiled
from gpu_worker.kernels.team import Team


class KernelCall:
    """Fill :attr:`arguments`, then run. The first argument is the address of the task counter, the second its end."""

    def __init__(self, body: Body, arguments: int, team: Team) -> None:
        self._kernel = Compiled(body)
        self._team = team
        self._counter = np.zeros(1, dtype=np.int64)
        self.arguments = np.zeros(arguments, dtype=np.int64)
        self.arguments[0] = self._counter.ctypes.data
        self._address: int = self.arguments.ctypes.data

    def set_float(self, index: int, value: float) -> None:
        """An argument that the kernel reads as float64."""
        self.arguments.view(np.float64)[index] = value

    def run(self, blocks: int, alone: bool = False) -> None:
        """Do ``blocks`` tasks on all threads, or on the calling one ``alone``."""
        self._counter[0] = 0
        self.arguments[1] = blocks
        if alone or blocks == 1:
            self._team.run_alone(self._kernel.address, self._address)
        else:
            self._team.run(self._kernel.address, self._address)
