"""What has to wait for a GPU: processes for each other, and a clock for the work it times."""

import pytest
import torch
import torch.distributed as dist

from benchmarks import table
from pipeline.common import runtime
from pipeline.training.distributed import Processes
from wise import estimate


@pytest.fixture
def queued(gpu, monkeypatch):
    """An all-reduce as NCCL's, which returns before the processes have exchanged anything."""
    calls = []

    def all_reduce(values):
        gpu.waits.clear()
        calls.append(values)

    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    return calls


def test_the_host_waits_for_the_other_processes(gpu, queued):
    Processes(1, 2).wait()
    assert len(queued) == 1
    assert [wait.reason for wait in gpu.waits] == ["aten::_local_scalar_dense"]


def test_a_process_ends_after_the_first_has_said_why(gpu, queued):
    known = torch.zeros((), device=runtime.device())
    with pytest.raises(SystemExit):
        Processes(1, 2).end("the loss is no longer finite", known)
    assert len(queued) == 1
    assert [wait.reason for wait in gpu.waits] == ["aten::_local_scalar_dense"]


def test_a_sum_of_gradients_does_not_wait(gpu, queued):
    parameter = torch.nn.Parameter(torch.ones(3, device=runtime.device()))
    parameter.grad = torch.ones(3, device=runtime.device())
    Processes(1, 2).sum_gradients([parameter])
    assert len(queued) == 1
    assert not gpu.waits


@pytest.mark.parametrize("timed", [table.timed, estimate._timed])
def test_work_on_a_gpu_is_timed_to_its_end(timed, gpu):
    timed(lambda: None)
    assert [wait.reason for wait in gpu.waits] == ["synchronize"]


@pytest.mark.parametrize("timed", [table.timed, estimate._timed])
def test_work_on_a_cpu_makes_no_cuda_context(timed, monkeypatch):
    monkeypatch.setenv("WISE_DEVICE", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: pytest.fail("a context"))
    timed(lambda: None)
