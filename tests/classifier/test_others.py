"""Features of photographs that show none of the classes: what is kept, and which are left out."""

import numpy as np
import pytest
import safetensors.numpy

from pipeline.artifacts.split import Photograph, Split
from pipeline.classifier.network import PrmDescription
from pipeline.classifier.others import CELLS, Others, is_named, read_others, write_others
from pipeline.common.errors import InputError

CATEGORIES = ("cat", "hot dog", "person")
SHOWN = (("cat",), (), ("hot dog", "person"), ("person",))
CHANNELS, SIDE = 5, 11
DESCRIPTION = PrmDescription(backbone="any", classes=("a",), image_size=SIDE * 32, upsample=8)


def features(number, mirrored):
    assert not mirrored
    of = np.random.default_rng(number).uniform(0, 6, (CHANNELS, SIDE, SIDE))
    return np.where(of < 3, 0, of).astype(np.float16)


@pytest.fixture
def file(tmp_path):
    photographs = tuple(
        Photograph(id=f"{n}", file=f"{n}.jpg", height=3, width=4, sha256="", tags=tags)
        for n, tags in enumerate(SHOWN)
    )
    split = Split(root=".", classes=CATEGORIES, photographs=photographs)
    write_others(tmp_path / "others.safetensors", DESCRIPTION, "package", split, features)
    return tmp_path / "others.safetensors"


def test_cells_are_those_of_the_photographs_in_eight_bits(file):
    others = read_others(file, ["pothole"])
    assert len(others) == len(SHOWN)
    middles = [SIDE * (2 * part + 1) // (2 * CELLS) for part in range(CELLS)]
    for number in range(len(SHOWN)):
        kept = features(number, False)[:, middles][:, :, middles]
        assert np.abs(others.features[number] - kept).max() <= 6 / 255
        assert (others.features[number][kept == 0] == 0).all()


def test_each_cell_of_a_grid_has_the_features_of_the_nearest_one():
    others = Others(np.arange(4, dtype=np.float16).reshape(1, 1, 2, 2))
    expected = [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3]]
    assert others.spread(0, 3, 4).tolist() == [expected]


@pytest.mark.parametrize(
    ("classes", "left"),
    [
        (["pothole"], [0, 1, 2, 3]),
        (["cat"], [1, 2, 3]),
        (["Black Cats"], [1, 2, 3]),
        (["dog"], [0, 1, 3]),
        (["persons", "cat"], [1]),
    ],
)
def test_photographs_of_the_classes_are_left_out(file, classes, left):
    everything = read_others(file, ["pothole"]).features
    assert np.array_equal(read_others(file, classes).features, everything[left])


@pytest.mark.parametrize(
    ("category", "of_class", "named"),
    [
        ("tv", "TV-monitor", True),
        ("dining table", "diningtable", True),
        ("dog", "hot dog", True),
        ("cat", "a", False),
        ("cat", "?", False),
        ("potted plant", "pothole", False),
    ],
)
def test_a_class_names_a_category_if_one_is_a_part_of_the_other(category, of_class, named):
    assert is_named(category, [of_class]) is named


def test_what_cannot_be_used_is_said_in_a_line(file, tmp_path):
    write_all_shown(tmp_path)
    with pytest.raises(InputError, match=r"^.*others\.safetensors: all photographs show car, "):
        read_others(tmp_path / "others.safetensors", ["car", "van"])
    with pytest.raises(InputError, match="missing"):
        read_others(tmp_path / "absent.safetensors", ["car"])
    (tmp_path / "broken.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match="not a weights file, or broken"):
        read_others(tmp_path / "broken.safetensors", ["car"])
    safetensors.numpy.save_file({"a": np.zeros(1)}, tmp_path / "network.safetensors")
    with pytest.raises(InputError, match="not the weights of a Others"):
        read_others(tmp_path / "network.safetensors", ["car"])


def write_all_shown(folder):
    photograph = Photograph(id="1", file="1.jpg", height=3, width=4, sha256="", tags=("car",))
    split = Split(root=".", classes=("car",), photographs=(photograph,))
    write_others(folder / "others.safetensors", DESCRIPTION, "package", split, features)
