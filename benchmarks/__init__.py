"""Benchmarks: `lines()` of each module compares its jobs with another or a simple implementation.

`python -m benchmarks` prints all of them as one table, `python -m benchmarks NAME...` some.
"""
