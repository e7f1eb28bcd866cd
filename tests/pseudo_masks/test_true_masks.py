"""True masks in place of pseudo masks."""

import pytest

from pipeline.common import masks
from pipeline.common.errors import InputError
from pipeline.pseudo_masks.true_masks import TrueMasks
from tests.support.training_project import NAMES, true_image, truth


def test_images_without_objects_are_not_trained_on():
    objects = TrueMasks(truth(true_image("one", 1, 0), true_image("two")))
    assert [name in objects for name in NAMES] == [True, False, False]
    found = objects.instances("one", 3)
    assert found.label.tolist() == [1, 0]
    assert masks.area(found.masks).tolist() == [3600, 3600]


@pytest.mark.parametrize("images", [(), (true_image("one"),)])
def test_without_true_masks_it_is_said_how_to_go_on(images):
    with pytest.raises(InputError, match=r"no training image.*mask_rcnn_gt\.enabled to false"):
        TrueMasks(truth(*images))
