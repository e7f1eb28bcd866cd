"""A few hundred mutations for each reader; `python -m tests.fuzz` tries more."""

import pytest

from tests.fuzz.readers import READERS
from tests.fuzz.run import ELSE, fuzz

SLOW = {"params.yaml": 100, "stores": 150}  # up to ten milliseconds each


@pytest.mark.parametrize("name", READERS)
def test_mutated_inputs_are_read_or_refused_in_one_line(name):
    outcome = fuzz(READERS[name], SLOW.get(name, 300), seed=0)
    assert not outcome.counts[ELSE], "\n".join(outcome.examples)
