"""Shares of a batch, and a process that is alone."""

import torch
from torch import nn

from pipeline.training.distributed import Processes


def test_shares_are_the_batch():
    batch = list(range(7))
    for count in range(1, 8):
        shares = [Processes(rank, count).share(batch) for rank in range(count)]
        assert [item for share in shares for item in share] == batch
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_too_few_items_are_worked_by_all():
    assert [Processes(rank, 3).share([1, 2]) for rank in range(3)] == [[1, 2]] * 3


def test_alone_nothing_is_exchanged():
    layer = nn.Linear(2, 1)
    Processes().sum_gradients(layer.parameters())
    assert layer.weight.grad is None
    values = torch.ones(3)
    assert Processes().total(values) is values
