"""Contexts: what a program has said so far, kept as tokens under a name that later calls go on from."""
