"""A map over processes: the order, the errors, and a bound on what is under way."""

import os
import signal
import time

import pytest

from pipeline.common.errors import InputError
from pipeline.execution.pool import ordered_map


def slow_first(item: int) -> int:
    time.sleep(0.3 if item == 0 else 0)
    return item * item


def refuse_three(item: int) -> int:
    if item == 3:
        raise InputError("image 3: broken")
    return item


def vanish(item: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_results_come_in_order():
    assert list(ordered_map(slow_first, range(20), workers=2)) == [i * i for i in range(20)]


def test_items_are_taken_as_results_are_used():
    taken = []

    def items():
        for item in range(1000):
            taken.append(item)
            yield item

    results = ordered_map(slow_first, items(), workers=1)
    next(results)
    assert len(taken) <= 4
    results.close()


def test_an_error_names_its_item():
    with pytest.raises(InputError, match="image 3: broken"):
        list(ordered_map(refuse_three, range(9), workers=2))


def test_a_killed_worker_is_reported():
    with pytest.raises(InputError, match=r"worker process was killed.*WISE_WORKERS=1"):
        list(ordered_map(vanish, range(4), workers=2))
