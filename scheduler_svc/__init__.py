"""Queue, radix tree, page accounting, leases: thinks in pages and integers, never in tensors or text."""
