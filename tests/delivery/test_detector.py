"""A detector for photographs in memory, with a network that finds what it is told."""

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts.calibration import Calibration
from pipeline.artifacts.instances import Instances
from pipeline.common import masks
from pipeline.common.errors import InputError
from pipeline.delivery.detector import Detector

CLASSES = ("cat", "dog")


def bright(image):
    """A dog where the photograph is bright, and a cat everywhere."""
    shapes = np.stack([image.max(2) > 100, np.ones(image.shape[:2], bool)])
    scores = np.array([0.6, 0.5], np.float32)
    return Instances(masks.encode(shapes), np.array([1, 0], np.int16), scores)


def detector(powers=(1.0, 1.0), min_score=0.0, classes=CLASSES):
    calibration = Calibration(classes=CLASSES, max_overlap=1, expected=(1, 1), powers=powers)
    return Detector("test", classes, "nothing", bright, calibration, min_score)


@pytest.fixture
def image():
    pixels = np.zeros((6, 10, 3), np.uint8)
    pixels[2:5, 3:9] = 200
    return pixels


def test_masks_boxes_labels_and_scores(image):
    found = detector()(image)
    assert (found.masks.shape, found.masks.dtype) == ((2, 6, 10), np.bool_)
    np.testing.assert_array_equal(found.masks[0], image[..., 0] > 0)
    assert found.boxes.tolist() == [[3, 2, 9, 5], [0, 0, 10, 6]]
    assert (found.boxes.dtype, found.scores.dtype) == (np.float32, np.float32)
    assert found.labels == ("dog", "cat")
    np.testing.assert_allclose(found.scores, [0.6, 0.5])


def test_scores_are_calibrated_before_the_threshold(image):
    found = detector(powers=(1.0, 2.0), min_score=0.4)(image)
    assert found.labels == ("cat",)  # that of the dog is 0.36
    found = detector(powers=(1.0, 2.0), min_score=0.3)(image)
    assert found.labels == ("cat", "dog")
    np.testing.assert_allclose(found.scores, [0.5, 0.36])


def test_nothing_found(image):
    found = detector(min_score=0.9)(image)
    assert (found.masks.shape, found.boxes.shape, found.labels) == ((0, 6, 10), (0, 4), ())
    assert found.scores.shape == (0,)


def test_a_path_an_image_and_an_array_of_a_photograph_give_the_same(tmp_path, image):
    turned = Image.fromarray(np.rot90(image))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    turned.save(tmp_path / "a.png", exif=exif)
    wanted = detector()(image)
    with Image.open(tmp_path / "a.png") as opened:
        given = (tmp_path / "a.png", str(tmp_path / "a.png"), opened, image[:, ::-1][:, ::-1])
        for photograph in given:
            found = detector()(photograph)
            np.testing.assert_array_equal(found.masks, wanted.masks)
    gray = Image.fromarray(image[..., 0])
    np.testing.assert_array_equal(detector()(gray).masks, wanted.masks)


@pytest.mark.parametrize(
    ("photograph", "message"),
    [
        (
            np.zeros((6, 10), np.uint8),
            r"uint8 of shape \(height, width, 3\) is needed",
        ),
        (np.zeros((6, 10, 4), np.uint8), r"of shape \(6, 10, 4\)"),
        (np.zeros((0, 10, 3), np.uint8), r"of shape \(0, 10, 3\)"),
        (np.zeros((6, 10, 3)), "not float64 of shape"),
        (7, "a path, an image of Pillow or an array, not a int"),
        ("absent.jpg", r"absent\.jpg: no such image"),
        (Image.new("F", (4, 4)), "photograph: 32 bits per channel"),
    ],
)
def test_what_is_no_photograph(photograph, message):
    with pytest.raises(InputError, match=message):
        detector()(photograph)


def test_a_calibration_of_other_classes():
    with pytest.raises(InputError, match="test: detects cow, but its calibration is of cat, dog"):
        detector(classes=("cow",))
