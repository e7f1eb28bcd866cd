"""Weights files: what is refused before anything is allocated, and what is named."""

import json
import os
import time

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from pipeline.artifacts.weights import write_weights
from pipeline.backbones.backbone import Backbone
from pipeline.classifier.network import Prm, PrmDescription
from pipeline.common.errors import InputError
from pipeline.detectors.mask_rcnn.network import MaskRcnn, MaskRcnnDescription
from tests.support.tiny import ARCHITECTURE, CLASSES, PRM


def described(path, description, **tensors):
    """A file with a description and whatever tensors."""
    arrays = {name: np.asarray(values, np.float32) for name, values in tensors.items()}
    metadata = {"description": json.dumps(description)}
    path.write_bytes(safetensors.numpy.save(arrays or {"a": np.zeros(1, np.float32)}, metadata))
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"box_features": 10**9},
        {"box_features": 10**18},
        {"channels": 10**6},
        {"mask_layers": 10**9},
        {"channels": 0},
        {"channels": -1},
        {"backbone": "vit_giant_patch14_dinov2"},
        {"max_size": 10**9},
    ],
)
def test_an_absurd_description_is_refused_before_anything_is_allocated(tmp_path, changes):
    architecture = {**ARCHITECTURE.model_dump(), **changes}
    path = described(tmp_path / "w", {"classes": CLASSES, "architecture": architecture})
    begun = time.perf_counter()
    with pytest.raises(InputError, match=r"^[^\n]*/w: (not the weights|its description)"):
        MaskRcnn.load(path, 0.5, 10)
    assert time.perf_counter() - begun < 60


@pytest.mark.parametrize(
    "changes", [{"classes": ["a"] * 10**6}, {"image_size": 0}, {"upsample": 10**9}, {"classes": []}]
)
def test_an_absurd_classifier(tmp_path, changes):
    path = described(tmp_path / "w", {**PRM.model_dump(), **changes})
    with pytest.raises(InputError, match=r"/w: (not the weights|its description)"):
        Prm.load(path)


def test_weights_that_are_not_finite_are_named(tmp_path):
    network = Prm(PRM, "none")
    with torch.no_grad():
        network.head.weight[0, 3] = torch.nan
    write_weights(tmp_path / "w", network, PRM)
    with pytest.raises(InputError, match=r"/w: head\.weight: 1 of \d+ numbers are not finite"):
        Prm.load(tmp_path / "w")


def test_a_pipe_and_a_folder(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe: not a regular file"):
        Prm.load(tmp_path / "pipe")
    with pytest.raises(InputError, match="cannot be read"):
        Prm.load(tmp_path)


def test_a_network_is_still_rebuilt_from_its_file(tmp_path):
    description = MaskRcnnDescription(classes=CLASSES, architecture=ARCHITECTURE)
    network = MaskRcnn(description, "none")
    write_weights(tmp_path / "w", network, description)
    loaded = MaskRcnn.load(tmp_path / "w", 0.5, 10)
    for name, value in network.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])
    assert PrmDescription(**PRM.model_dump()) == PRM


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {"a": "text"}, {"a": {"b": 1}}])
def test_pretrained_weights_that_are_no_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"w\.pth: (not a state dict|do not match)"):
        Backbone("tf_efficientnet_lite0", str(tmp_path / "w.pth"), (4,))


def test_pretrained_weights_that_are_not_finite(tmp_path):
    state = Backbone("tf_efficientnet_lite0", "none", (4,)).body.state_dict()
    state["conv_stem.weight"][0, 0, 0, 0] = torch.inf
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"w\.safetensors: conv_stem\.weight: 1 of 864 numbers"):
        Backbone("tf_efficientnet_lite0", str(tmp_path / "w.safetensors"), (4,))
