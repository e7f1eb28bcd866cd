"""The costs of the trainings of the paper's setting, here with small networks."""

import pytest

from benchmarks import paper
from tests.support.parameters import tiny_parameters


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paper")
    paper.write_photographs(folder, tiny_parameters())
    return folder


@pytest.mark.parametrize(
    ("name", "samples"),
    [("prm", 1_464), ("sharpmask.deepmask", 8), ("sharpmask.sharpening", 8), ("mask_rcnn", 1_464)],
)
def test_a_full_batch_of_every_training_is_measured(folder, name, samples):
    cost = paper.measure(name, folder, tiny_parameters())
    assert cost.seconds > 0
    assert 2**28 < cost.bytes < 2**34  # torch alone takes some hundred MB
    assert (cost.batch_size, cost.steps) == (4, samples / 4)


def test_a_row_says_what_the_whole_training_takes():
    cost = paper.Cost(seconds=0.5, bytes=3 * 2**30, batch_size=16, steps=7_200)
    assert cost.row("prm") == "| prm | 16 | 0.5 | 3.0 | 7,200 | 1.0 |"
