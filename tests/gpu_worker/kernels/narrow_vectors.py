"""Not collected by itself: test_older_processors.py runs it in a process that compiles for a processor of 2013.

Eight lanes, no dot products of bytes or bfloat16: the constants have to be set before anything compiles.
"""

from __future__ import annotations

import sys

import pytest

from gpu_worker.kernels import vector_width

HERE = "tests/gpu_worker"
CHOSEN = "number_of_rows or whoever or gates or embedding or (precisions and False)"

if __name__ == "__main__":
    vector_width.INT8_DOTS = vector_width.BFLOAT16_DOTS = False
    vector_width.LANES, vector_width.ACCUMULATORS = 8, 12
    files = [f"{HERE}/kernels/test_products.py", f"{HERE}/models/test_compiled_decoder.py"]
    sys.exit(pytest.main(["-q", "-k", CHOSEN, "-p", "no:cacheprovider", *files]))
