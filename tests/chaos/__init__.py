"""The proof that nothing is lost: a deployment under load, faults from a seed, and a checker of what clients saw."""
