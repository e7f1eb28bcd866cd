import numpy as np
import onnxruntime
import pytest
import torch
from tiny import MASK_RCNN

from pipeline import runtime
from pipeline.export import OUTPUTS, write_onnx
from pipeline.networks.mask_rcnn import MaskRcnn, pad


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    runtime.seed_everything(0)
    network = MaskRcnn(MASK_RCNN, "none", score_threshold=0.0, detections=10).eval()
    path = tmp_path_factory.mktemp("exported") / "detector.onnx"
    write_onnx(network, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return network, session


@pytest.mark.parametrize("size", [(64, 96), (70, 90), (128, 50)])
def test_onnx_finds_what_the_network_finds(exported, size):
    network, session = exported
    image = np.random.default_rng(1).integers(0, 255, (3, *size), np.uint8)
    padded, sizes = pad([torch.from_numpy(image)])
    with torch.inference_mode():
        (found,) = network(padded / 255, sizes)
    there = session.run(None, {"image": image.astype(np.float32) / 255})
    assert len(found["scores"]) > 0
    for name, value in zip(OUTPUTS, there, strict=True):
        here = found[name].squeeze(1) if name == "masks" else found[name]
        np.testing.assert_allclose(value, here.numpy(), rtol=1e-4, atol=1e-4, err_msg=name)
