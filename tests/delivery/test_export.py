import numpy as np
import onnxruntime
import pytest
import torch

from pipeline.common import runtime
from pipeline.delivery.export import OUTPUTS, canvas_side, write_onnx, write_program
from pipeline.detectors.mask_rcnn.network import PADDING, MaskRcnn, pad
from tests.support.tiny import MASK_RCNN

SIZES = [(64, 96), (70, 90), (128, 50)]


def network(score):
    runtime.seed_everything(0)
    return MaskRcnn(MASK_RCNN, "none", min_score=score, max_detections=10).eval()


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "detector.onnx"
    write_onnx(network(0.0), path)
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "detector.pt2"
    write_program(network(0.4), path)
    return torch.export.load(path).module()


def photograph(size):
    return np.random.default_rng(1).integers(0, 255, (3, *size), np.uint8)


def assert_same(there, found):
    assert len(found["scores"]) > 0
    for name, value in zip(OUTPUTS, there, strict=True):
        here = found[name].squeeze(1) if name == "masks" else found[name]
        np.testing.assert_allclose(value, here.numpy(), rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("size", SIZES)
def test_onnx_finds_what_the_network_finds(session, size):
    image = photograph(size)
    padded, sizes = pad([torch.from_numpy(image)])
    with torch.inference_mode():
        (found,) = network(0.0)(padded / 255, sizes)
    assert_same(session.run(None, {"image": image.astype(np.float32) / 255}), found)


@pytest.mark.parametrize("size", SIZES)
def test_the_program_finds_what_the_network_finds(program, size):
    side = canvas_side(MASK_RCNN.architecture)
    canvas = np.full((3, side, side), PADDING, np.uint8)
    canvas[:, : size[0], : size[1]] = photograph(size)
    image = torch.from_numpy(canvas) / 255
    with torch.inference_mode():
        (found,) = network(0.4)(image[None], [size])
        there = program(image, torch.tensor(size))
    assert_same(there, found)
