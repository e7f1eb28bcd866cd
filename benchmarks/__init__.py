"""Benchmarks: each module's `lines()` measures its jobs beside a peer's or the plain way.

`python -m benchmarks` prints all of them as one table, `python -m benchmarks NAME...` some.
"""
