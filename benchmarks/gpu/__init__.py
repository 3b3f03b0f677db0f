"""What the GPU takes against what it must take: kernels, steps, the server, each beside its floor, in one table."""
