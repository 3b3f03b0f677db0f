"""The programs of examples/programs as benchmarks: with and without the cache and hints, and against a plain client."""
