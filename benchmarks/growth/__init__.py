"""Cost as work grows: the scheduler with rows and queue, the radix tree with what it holds, the path with replicas.

python -m benchmarks.growth [--parts scheduler,tree,path,worker] [--output results/growth.json]
python -m benchmarks.growth --plots docs/plots      draws what the file holds, measures nothing
"""
