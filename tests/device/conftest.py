"""A pretend GPU on which the stages run, in this process."""

import os
import sys

import pytest
import torch
from torch.utils.data import DataLoader

from pipeline.common import runtime
from pipeline.execution import photographs
from pipeline.training import batches

# `tests/test_pretend_gpu.py` runs these in a process of their own: autograd counts the devices
# once, at the first backward pass of a process.
collect_ignore_glob = [] if "PRETEND_GPU" in os.environ else ["test_*.py"]


@pytest.fixture
def gpu(monkeypatch):
    """Make the pretend GPU the device of the project; gives its module.

    `gpu.waits` is the list of waits so far.
    """
    if not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this torch has no devices written in Python")
    from tests.device import pretend

    pretend.register()
    monkeypatch.setattr(runtime, "device", lambda: torch.device(pretend.NAME, 0))
    monkeypatch.setattr(torch.Tensor, "pin_memory", pretend.pin_memory)
    # In inference mode, operations that consist of others would reach the device whole.
    monkeypatch.setattr(torch.inference_mode, "__enter__", _no_grad)
    monkeypatch.setattr(photographs, "ordered_map", _without_workers)
    monkeypatch.setattr(batches, "DataLoader", _without_processes)
    monkeypatch.setenv("WISE_WORKERS", "1")
    deterministic = torch.are_deterministic_algorithms_enabled()
    pretend.waits.clear()
    _forget_networks()
    with pretend.Mode():
        yield pretend
    _forget_networks()
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def waits_per_image(gpu, monkeypatch):
    """The waits of each image that a stage computes, after the first, which loads the networks."""
    waits = []

    def recorded(call, items, workers):
        for number, item in enumerate(items):
            gpu.waits.clear()
            result = call(item)
            if number:
                waits.append(list(gpu.waits))
            yield result

    monkeypatch.setattr(photographs, "ordered_map", recorded)
    return waits


def _without_workers(call, items, workers):
    return map(call, items)


def _no_grad(mode):
    mode._inference_mode_context = torch.no_grad()
    mode._inference_mode_context.__enter__()


def _without_processes(dataset, num_workers, worker_init_fn, multiprocessing_context, **settings):
    return DataLoader(dataset, **settings)


def _forget_networks():
    """Clear the caches of networks, which are on a device."""
    for name, module in list(sys.modules.items()):
        if name.startswith("pipeline."):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()
