"""The schedule of the upper bound."""

import yaml

from pipeline.artifacts.split import Photograph, Split
from pipeline.detectors.mask_rcnn.training import MaskRcnnParameters
from pipeline.detectors.upper_bound import match_steps
from pipeline.pseudo_masks.true_masks import TrueMasks
from tests.support import ROOT
from tests.support.training_project import CLASSES, true_image, truth


def test_fewer_images_are_shown_more_often():
    values = yaml.safe_load((ROOT / "presets/scenes.yaml").read_text())["mask_rcnn"]
    values["schedule"] |= {"epochs": 3, "milestones": [2]}
    shown = [
        Photograph(id=str(n), file="", height=1, width=1, sha256="", tags=CLASSES[: n < 10])
        for n in range(15)  # nothing is learnt from those without tags
    ]
    split = Split(root="", classes=CLASSES, photographs=tuple(shown))
    four = TrueMasks(truth(*(true_image(str(n), 0) for n in range(4))))
    same = MaskRcnnParameters.parse(values, "mask_rcnn")
    schedule = match_steps(same, split, four).schedule
    assert (schedule.epochs, schedule.milestones) == (8, (5,))  # 7.5 and 5
    twice = same.model_copy(update={"rounds": 2})
    assert match_steps(twice, split, four).schedule.epochs == 15
    everything = TrueMasks(truth(*(true_image(str(n), 0) for n in range(10))))
    assert match_steps(same, split, everything) == same
