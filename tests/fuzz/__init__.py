"""Mutated inputs: every reader either reads them or refuses them in one line.

`python -m tests.fuzz` tries 20,000 for each reader; `make test` a few hundred.
"""
