"""Benchmarks: scripts that start what they measure. `make bench` runs them all."""
