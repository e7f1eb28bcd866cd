import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.tiny import MASK_RCNN as DESCRIPTION
from pipeline import masks, runtime
from pipeline.artifacts.instances import InstanceStore, InstanceWriter
from pipeline.artifacts.weights import write_weights
from pipeline.networks.mask_rcnn import MaskRcnn
from pipeline.parallel import ordered_map
from pipeline.predictions import PredictionsParameters, Predictor, predict

HEIGHT, WIDTH = 100, 150


def detector():
    runtime.seed_everything(0)
    return MaskRcnn(DESCRIPTION, "none", score_threshold=0.0, detections=10).eval()


class Known(torch.nn.Module):
    """A network that finds what it was told, in coordinates of the resized image."""

    description = DESCRIPTION

    def __init__(self, found):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.found = found

    def forward(self, images, sizes):
        assert images.shape == (1, 3, 64, 96)
        assert sizes == [(64, 96)]
        return [self.found]


def test_detections_come_back_at_the_size_of_the_photograph():
    full, nothing = torch.ones(1, 28, 28), torch.zeros(1, 28, 28)
    found = {
        "boxes": torch.tensor([[32.0, 16.0, 64.0, 48.0], [0.0, 0.0, 20.0, 20.0]]),
        "labels": torch.tensor([2, 1]),
        "scores": torch.tensor([0.9, 0.8]),
        "masks": torch.stack([full, nothing]),
    }
    instances = predict(Known(found), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[25:75, 50:100] = True  # 100 / 64 times the box; the empty mask is gone
    assert masks.jaccard(instances.masks, masks.encode(expected[None])).min() > 0.9
    assert instances.label.tolist() == [1]
    assert instances.score.tolist() == [np.float32(0.9)]


@pytest.fixture
def photographs(tmp_path):
    rng = np.random.default_rng(1)
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)).save(path)
    return paths


def test_round_trip_by_any_number_of_workers(tmp_path, photographs):
    write_weights(tmp_path / "weights.safetensors", detector(), DESCRIPTION)
    parameters = PredictionsParameters(score_threshold=0.0, detections=10)
    predictor = Predictor(tmp_path / "weights.safetensors", parameters)
    with InstanceWriter(tmp_path / "store", "predictions", DESCRIPTION.classes, {}) as writer:
        for path, found in zip(photographs, ordered_map(predictor, photographs, 1), strict=True):
            writer.add(path.name, HEIGHT, WIDTH, found)
    store = InstanceStore(tmp_path / "store")
    for path in photographs:
        stored, here = store.instances(path.name), predictor(path)
        assert 0 < len(here.masks) <= 10
        assert [mask["size"] for mask in stored.masks] == [[HEIGHT, WIDTH]] * len(here.masks)
        assert set(stored.label.tolist()) <= {0, 1}
        assert (np.diff(stored.score) <= 0).all()
        assert masks.area(stored.masks).min() > 0
        assert stored.masks == here.masks
        np.testing.assert_array_equal(stored.label, here.label)


def test_a_threshold_above_every_score_leaves_nothing(tmp_path, photographs):
    write_weights(tmp_path / "weights.safetensors", detector(), DESCRIPTION)
    parameters = PredictionsParameters(score_threshold=0.99, detections=10)
    found = Predictor(tmp_path / "weights.safetensors", parameters)(photographs[0])
    assert (len(found.masks), found.label.dtype, found.score.dtype) == (0, np.int16, np.float32)
