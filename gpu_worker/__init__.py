"""Weights, KV pool, kernels, sampling: the only package that imports torch."""
