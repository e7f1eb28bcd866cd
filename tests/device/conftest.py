"""A pretend GPU on which the stages run, in this process."""

import os
import sys

import pytest
import torch
from torch.utils.data import DataLoader

from pipeline.execution import photographs
from pipeline.training import batches

# `tests/test_pretend_gpu.py` runs these in a process of their own: autograd counts the devices
# once, at the first backward pass of a process.
collect_ignore_glob = [] if "PRETEND_GPU" in os.environ else ["test_*.py"]


@pytest.fixture
def gpu(monkeypatch):
    """Make the pretend GPU the device of the project; gives its module.

    `gpu.waits` is the list of waits so far, `gpu.roundings` that of lines that computed in TF32.
    """
    if not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this torch has no devices written in Python")
    from tests.device import pretend

    monkeypatch.setattr(photographs, "ordered_map", _without_workers)
    monkeypatch.setattr(batches, "DataLoader", _without_processes)
    monkeypatch.setenv("WISE_WORKERS", "1")
    deterministic = torch.are_deterministic_algorithms_enabled()
    rounded = torch.backends.cuda.matmul.allow_tf32
    # As in NVIDIA's containers, which set TORCH_ALLOW_TF32_CUBLAS_OVERRIDE.
    torch.backends.cuda.matmul.allow_tf32 = True
    _forget_networks()
    with pretend.in_use():
        yield pretend
    _forget_networks()
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cuda.matmul.allow_tf32 = rounded


@pytest.fixture
def waits_per_call(gpu, monkeypatch):
    """The waits of each call of a stage, with two images where a stage computes several at once.

    The first call is not among them: it loads the networks.
    """
    waits = []

    def recorded(call, items, workers):
        for number, item in enumerate(items):
            gpu.waits.clear()
            result = call(item)
            if number:
                waits.append(list(gpu.waits))
            yield result

    monkeypatch.setattr(photographs, "ordered_map", recorded)
    monkeypatch.setattr(photographs, "GPU_BATCH", 2)
    return waits


def _without_workers(call, items, workers):
    return map(call, items)


def _without_processes(dataset, num_workers, worker_init_fn, multiprocessing_context, **settings):
    return DataLoader(dataset, **settings)


def _forget_networks():
    """Clear the caches of networks, which are on a device."""
    for name, module in list(sys.modules.items()):
        if name.startswith("pipeline."):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()
