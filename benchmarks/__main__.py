"""``python -m benchmarks``: the server benchmarks."""

from benchmarks.serve import app

app()
