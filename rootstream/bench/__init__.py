"""Load for a server and what it amounts to: named workloads, a load generator, figures.

Speaks public HTTP only, so that any server with an OpenAI-compatible API can be measured.
"""
