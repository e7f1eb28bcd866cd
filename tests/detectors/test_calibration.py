"""Powers by which as many detections pass 0.5 as there are objects, and what they leave alone."""

import numpy as np
import pytest

from pipeline.artifacts.calibration import Calibration
from pipeline.artifacts.instances import Instances, InstanceStore, InstanceWriter
from pipeline.artifacts.split import Photograph, Split
from pipeline.common import masks
from pipeline.detectors.calibration import MAX_POWER, fit, fit_power, object_scores

CLASSES = ("cat", "dog")
HEIGHT, WIDTH = 20, 60


def box(left, width=8):
    shape = np.zeros((HEIGHT, WIDTH), bool)
    shape[2:12, left : left + width] = True
    return shape


def instances(*found):
    """`found` are triples of label, score and mask, best first."""
    return Instances(
        masks.encode(np.array([mask for *_, mask in found]).reshape(-1, HEIGHT, WIDTH)),
        np.array([label for label, *_ in found], np.int16),
        np.array([score for _, score, _ in found], np.float32),
    )


def split(**tags):
    size = {"height": HEIGHT, "width": WIDTH, "sha256": ""}
    photographs = [Photograph(id=name, file="", tags=of, **size) for name, of in tags.items()]
    return Split(root="", classes=CLASSES, photographs=tuple(photographs))


def store(path, **images):
    with InstanceWriter(path, "predictions", CLASSES, {}) as writer:
        for name, of_image in images.items():
            writer.add(name, HEIGHT, WIDTH, of_image)
    return InstanceStore(path)


@pytest.mark.parametrize("expected", [1, 7, 30, 100])
@pytest.mark.parametrize("highest", [0.4, 0.97])
def test_as_many_scores_pass_a_half_as_are_expected(expected, highest):
    scores = (highest * np.random.default_rng(0).random(100)).astype(np.float32)
    power = fit_power(scores, expected)
    assert ((scores**power).astype(np.float32) >= 0.5).sum() == expected


def test_fewer_scores_than_expected_all_pass():
    scores = np.array([0.9, 0.05, 0.2], np.float32)
    assert (scores ** fit_power(scores, 8) >= 0.5).all()


def test_where_there_is_nothing_to_fit_scores_stay():
    assert fit_power(np.zeros(0, np.float32), 3) == 1
    assert fit_power(np.array([0.3], np.float32), 0) == 1


def test_powers_have_limits():
    assert fit_power(np.ones(4, np.float32), 2) == MAX_POWER
    assert fit_power(np.full(4, 0.999, np.float32), 2) == MAX_POWER
    assert fit_power(np.full(4, 1e-12, np.float32), 2) == 1 / MAX_POWER


def test_objects_are_of_tagged_classes_and_no_parts(tmp_path):
    found = store(
        tmp_path / "found",
        a=instances((0, 0.9, box(0)), (1, 0.8, box(30)), (0, 0.7, box(1, 3)), (0, 0.6, box(15))),
        b=instances((1, 0.5, box(0))),
        c=instances(),
    )
    of = split(a=("cat",), b=("cat", "dog"), c=())
    cats, dogs = object_scores(of, found, 0.6)
    assert (cats.tolist(), dogs.tolist()) == (pytest.approx([0.9, 0.6]), [0.5])
    cats, _ = object_scores(of, found, 1.0)
    assert len(cats) == 3


def test_powers_are_of_each_class_and_fitted_to_the_draws(tmp_path):
    rng = np.random.default_rng(1)
    places = [box(10 * number) for number in range(5)]

    def of_image(counts, scores):
        rows = [(k, s, places[n]) for k, count in enumerate(counts) for n, s in enumerate(scores)]
        kept = [
            row for row in rows if any(np.array_equal(row[2], p) for p in places[: counts[row[0]]])
        ]
        return instances(*sorted(kept, key=lambda row: -row[1]))

    names = [f"i{number}" for number in range(20)]
    of = split(**dict.fromkeys(names, CLASSES))
    draws = store(tmp_path / "d", **{name: of_image((2, 3), [0.9, 0.8, 0.7]) for name in names})
    found = store(
        tmp_path / "f",
        **{name: of_image((5, 5), rng.random(5) ** 3) for name in names},
    )
    calibration = fit(of, draws, found, 0.6)
    assert calibration.expected == (40, 60)
    calibrated = calibration.view(found)
    passing = np.zeros(2, int)
    for name in names:
        raw, new = found.instances(name), calibrated.instances(name)
        passing += np.bincount(new.label[new.score >= 0.5], minlength=2)
        assert (np.diff(new.score) <= 0).all()
        for label in range(2):  # the order within a class is that of before
            before = [raw.masks[k] for k in np.flatnonzero(raw.label == label)]
            assert before == [new.masks[k] for k in np.flatnonzero(new.label == label)]
    assert passing.tolist() == [40, 60]
    calibration.write(tmp_path / "calibration.json")
    assert Calibration.read(tmp_path / "calibration.json") == calibration


def test_off_changes_nothing():
    found = instances((0, 0.9, box(0)), (1, 0.3, box(30)))
    same = Calibration.off(CLASSES).apply(found)
    np.testing.assert_array_equal(same.score, found.score)
    assert not Calibration.off(CLASSES).enabled
    assert len(Calibration.off(CLASSES).apply(instances()).masks) == 0
