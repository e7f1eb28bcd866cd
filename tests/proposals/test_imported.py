import json

import numpy as np
import pytest

from pipeline.artifacts.split import Photograph, Split
from pipeline.common import masks
from pipeline.common.errors import InputError
from pipeline.proposals.imported import read_proposals

HEIGHT, WIDTH = 30, 40
SPLIT = Split(
    root="photographs",
    classes=("cat",),
    photographs=tuple(
        Photograph(id=name, file=f"in/{name}.jpg", height=HEIGHT, width=WIDTH, sha256="", tags=())
        for name in ("a", "b", "c")
    ),
)
MASK = np.zeros((HEIGHT, WIDTH), bool)
MASK[5:15, 10:30] = True
[RLE] = masks.encode(MASK[None])
COMPRESSED = {"size": RLE["size"], "counts": RLE["counts"].decode()}
RUNS = {"size": [HEIGHT, WIDTH], "counts": [305, *[10, 20] * 19, 10, 1200 - 305 - 19 * 30 - 10]}
POLYGONS = [[10, 5, 30, 5, 30, 15, 10, 15]]


def result(image, segmentation, score):
    return {"image_id": image, "segmentation": segmentation, "score": score}


@pytest.fixture
def write(tmp_path):
    def write(document):
        path = tmp_path / "train.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    return write


def test_a_list_of_results_in_all_forms(write):
    path = write([result("b", form, 0.5) for form in (COMPRESSED, RUNS, POLYGONS)])
    found = read_proposals(path, SPLIT, 10)
    assert {image: len(proposals.masks) for image, proposals in found.items()} == {
        "a": 0,
        "b": 3,
        "c": 0,
    }
    assert found["b"].masks == [RLE] * 3
    assert found["a"].score.shape == (0,)


def test_a_whole_coco_file_by_file_name(write):
    images = [{"id": 7, "file_name": "c.jpg"}, {"id": 8, "file_name": "in/a.jpg"}]
    annotations = [result(7, COMPRESSED, 0.25), result(8, POLYGONS, 1)]
    found = read_proposals(write({"images": images, "annotations": annotations}), SPLIT, 10)
    assert [len(found[image].masks) for image in "abc"] == [1, 0, 1]
    assert found["c"].score.tolist() == [0.25]


def of_folders(*files):
    """A split with these files, each named after its folder."""
    (first, *_) = SPLIT.photographs
    photographs = [first.model_copy(update={"id": f[0], "file": f}) for f in files]
    return SPLIT.model_copy(update={"photographs": tuple(photographs)})


def test_photographs_of_one_name_are_told_apart_by_their_folders(write):
    files = ("a/one.jpg", "b/one.jpg", "one.jpg")
    images = [{"id": n, "file_name": file} for n, file in enumerate(files)]
    annotations = [result(n, COMPRESSED, n / 4) for n in range(3)]
    path = write({"images": images, "annotations": annotations})
    found = read_proposals(path, of_folders(*files), 10)
    assert [of.score.tolist() for of in found.values()] == [[0], [0.25], [0.5]]


@pytest.mark.parametrize("name", ["one.jpg", "c/one.jpg"])
def test_a_name_that_two_photographs_have_is_refused(write, name):
    path = write({"images": [{"id": 1, "file_name": name}], "annotations": []})
    with pytest.raises(InputError, match=f"images: {name} is 2 photographs of the split"):
        read_proposals(path, of_folders("a/one.jpg", "b/one.jpg"), 10)


def test_the_best_come_first_and_no_more_than_asked_for(write):
    path = write([result("a", COMPRESSED, score) for score in (0.1, 0.9, 0.5, 0.7)])
    proposals = read_proposals(path, SPLIT, 3)["a"]
    np.testing.assert_allclose(proposals.score, [0.9, 0.7, 0.5])
    assert proposals.score.dtype == np.float32


def test_a_mask_without_a_pixel_is_left_out(write):
    empty = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}
    assert read_proposals(write([result("a", empty, 0.5)]), SPLIT, 3)["a"].masks == []


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([result("a", {**COMPRESSED, "size": [WIDTH, HEIGHT]}, 0.5)], "but the image has"),
        ([result("z", COMPRESSED, 0.5)], "image_id 'z' is not a photograph"),
        ([result("a", {**COMPRESSED, "counts": COMPRESSED["counts"][:9]}, 0.5)], "not 1200"),
        (None, "no list of results"),
        ({"annotations": None}, "no list of results"),
        ({"images": []}, "no list of results"),
        ([result("a", COMPRESSED, [[[[0.5]]]])], "must be a number from 0 to 1"),
        ('[{"image_id": ' + "9" * 10**6 + "}]", "not JSON"),
        ("[" * 100_000, "nested more than 16 deep"),
        ('[{"score": 0.5, "image_id": "one", "score": 0.1}]', "key 'score' occurs twice"),
        ('[{"score": ' + "[" * 100_000 + "]" * 100_000 + "}]", "nested more than 16 deep"),
        ("[" + "9" * 2 * 10**7 + "]", "a number or a text of more than 16 MiB"),
        ("[0." + "9" * 2 * 10**7 + "]", "a number or a text of more than 16 MiB"),
        ([result(["a"], COMPRESSED, 0.5)], r"image_id \['a'\] is not"),
        ([result("a", [[10**400] * 6], 0.5)], "not JSON"),
        (
            {"images": 2 * [{"id": 1, "file_name": "a.jpg"}], "annotations": []},
            "id 1 occurs twice",
        ),
        ([result("a", {**COMPRESSED, "counts": "\x7f"}, 0.5)], "invalid character"),
        ([{"image_id": "a", "segmentation": POLYGONS}], "no score"),
        ([result("a", POLYGONS, 1.5)], "score 1.5"),
        ([result("a", POLYGONS, "high")], "score 'high'"),
        ([[]], "must be an object with image_id"),
        ({"images": [{"id": 1, "file_name": "z.jpg"}], "annotations": []}, "z.jpg is not a photo"),
        ({"images": [{"id": 1}], "annotations": []}, "each must have an id and a file_name"),
        ("[{", "not JSON"),
        ("", "not JSON"),
    ],
)
def test_what_cannot_be_used_is_named(write, document, said):
    with pytest.raises(InputError, match=said) as error:
        read_proposals(write(document), SPLIT, 10)
    assert "train.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"val\.json: missing"):
        read_proposals(tmp_path / "val.json", SPLIT, 10)
