"""Other servers on the same machine, under the same load: installed, started, measured and compared by one command.

python -m benchmarks.peers install     each into an environment of its own, pinned; and the model, in their formats
python -m benchmarks.peers run         all of them, one at a time, in rounds; then the table
python -m benchmarks.peers table       the table again, from results/peers.json
"""
