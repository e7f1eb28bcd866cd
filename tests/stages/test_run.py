"""A stage as a script: an error that a user can fix is one line."""

import re

import pytest
import torch
import yaml

from stages.common.parameters import lookup
from stages.common.run import run
from tests.support import ROOT

TORCH_STAGES = {
    "prm",
    "peaks",
    "sharpmask",
    "proposals",
    "retrieval",
    "community",
    "community_predictions",
    "mask_rcnn",
    "mask_rcnn_gt",
    "predictions",
}


def failing(error):
    def stage():
        raise error

    return stage


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ..."),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be ..."),
    ],
)
def test_too_little_memory_of_a_gpu_is_one_line_that_names_a_parameter(error):
    with pytest.raises(SystemExit) as ended:
        run(failing(error), memory="prm.schedule.batch_size")
    assert str(ended.value).endswith(
        "the memory of the GPU is too small; lower prm.schedule.batch_size, or end other "
        "programs on it"
    )


def test_too_little_memory_of_the_machine_is_one_line():
    with pytest.raises(SystemExit, match=r"the memory of the machine is too small; lower prm\.x"):
        run(lambda: torch.zeros(2**50), memory="prm.x")


@pytest.mark.parametrize("memory", ["", "prm.schedule.batch_size"])
def test_other_errors_are_not_hidden(memory):
    with pytest.raises(RuntimeError, match="shapes"):
        run(failing(RuntimeError("shapes do not match")), memory=memory)


def test_stages_with_networks_name_parameters_that_exist():
    values = yaml.safe_load((ROOT / "presets" / "scenes.yaml").read_text())
    named = {}
    for file in (ROOT / "stages").glob("*.py"):
        if found := re.search(r'memory="([^"]+)"', file.read_text()):
            named[file.stem] = found[1].split(" and ")
    assert set(named) == TORCH_STAGES
    assert all(lookup(values, key) is not None for keys in named.values() for key in keys)
