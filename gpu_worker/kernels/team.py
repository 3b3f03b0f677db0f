"""Running a compiled kernel on several threads: those that torch already has.

Torch's operators run on the OpenMP team of the libgomp that comes with it. A second pool of threads
would fight with that one for the cores, because both spin while they wait; so kernels are started
with GOMP_parallel of the same library, on the same team. Where torch has another OpenMP runtime,
kernels run on the calling thread. Starting a kernel that has 7 us of work for each of two threads takes
14 us in all this way, 16 through numba's OpenMP layer and 70 to 100 through its workqueue
(benchmarks/thread_teams.py).
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch


class Team:
    """The OpenMP team of the calling thread."""

    def __init__(self) -> None:
        library = _gomp()
        self._parallel = None
        self.size_function = 0
        """Address of a C function that says how many threads are running the present call; 0 if it is always one."""
        if library is not None:
            self._parallel = library.GOMP_parallel
            self._parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
            self._parallel.restype = None
            self.size_function = ctypes.cast(library.omp_get_num_threads, ctypes.c_void_p).value or 0

    @property
    def is_parallel(self) -> bool:
        """Whether kernels can run on more than the calling thread."""
        return self._parallel is not None

    def run(self, kernel: int, arguments: int) -> None:
        """Call the kernel at an address on all of torch's threads, without the interpreter lock; wait for all."""
        if self._parallel is None:
            _KERNEL(kernel)(arguments)
        else:
            self._parallel(kernel, arguments, torch.get_num_threads(), 0)

    def run_alone(self, kernel: int, arguments: int) -> None:
        """Call the kernel on this thread only, holding the interpreter lock: for what takes microseconds."""
        _QUICK_KERNEL(kernel)(arguments)


_KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_QUICK_KERNEL = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)


def _gomp() -> ctypes.CDLL | None:
    found = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
    found += sorted((Path(torch.__file__).parent.parent / "torch.libs").glob("libgomp*.so*"))
    for path in found:
        try:
            library = ctypes.CDLL(str(path))
            _ = library.GOMP_parallel, library.omp_get_num_threads
        except (OSError, AttributeError):
            continue
        return library
    return None
