"""COCO's annotations as tags and as truth, and files that are no annotations."""

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from pipeline.artifacts.split import Photograph
from pipeline.common import masks
from pipeline.common.errors import InputError
from pipeline.dataset import coco as coco_target

HEIGHT, WIDTH = 10, 12
SQUARE = [2, 3, 6, 3, 6, 8, 2, 8]  # x from 2 to 6, y from 3 to 8


def painted(top, left, bottom, right):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


def run_lengths(mask):
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()}


def annotation(number, image, category, segmentation, **more):
    of = {"id": number, "image_id": image, "category_id": category}
    return {**of, "segmentation": segmentation, "iscrowd": 0, **more}


def document():
    return {
        "info": {},
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "images": [
            {"id": 5, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH},
            {"id": 6, "file_name": "sub/b.jpg", "height": HEIGHT, "width": WIDTH},
            {"id": 9, "file_name": "c.jpg", "height": HEIGHT, "width": WIDTH},
        ],
        "annotations": [
            annotation(1, 5, 7, [SQUARE]),
            annotation(2, 5, 3, run_lengths(painted(0, 0, 2, 2))),
            annotation(3, 6, 3, {"size": [HEIGHT, WIDTH], "counts": [0, 4, 116]}, iscrowd=1),
        ],
    }


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def photographs():
    return [
        Photograph(id=image["file_name"], file="", height=HEIGHT, width=WIDTH, sha256="", tags=())
        for image in document()["images"]
    ]


def test_categories_are_tags(tmp_path):
    path = write(tmp_path / "instances.json", document())
    images = coco_target.read_lists(path, tmp_path, ("train", "val"))[""]
    assert [(image.id, set(image.tags)) for image in images] == [
        ("a.jpg", {"cat", "dog"}),
        ("sub/b.jpg", {"cat"}),
        ("c.jpg", set()),
    ]


def test_tags_do_not_depend_on_masks(tmp_path):
    before = coco_target.read_lists(write(tmp_path / "a.json", document()), tmp_path, ())
    without = document()
    for entry in without["annotations"]:
        del entry["segmentation"]
    assert coco_target.read_lists(write(tmp_path / "b.json", without), tmp_path, ()) == before
    truth = coco_target.read_truth(tmp_path / "b.json", photographs(), ("cat", "dog"))
    assert truth.images == ()


def test_a_folder_has_a_file_for_every_list(tmp_path):
    (tmp_path / "one").mkdir()
    for name in ("one", "two"):
        write(tmp_path / f"instances_{name}.json", document())
    lists = coco_target.read_lists(tmp_path, tmp_path, ("one", "two"))
    assert [images[0].file for images in lists.values()] == ["one/a.jpg", "a.jpg"]


def test_masks_are_the_truth_and_crowds_are_void(tmp_path):
    path = write(tmp_path / "instances.json", document())
    truth = coco_target.read_truth(path, photographs(), ("cat", "dog"))
    assert [image.id for image in truth.images] == ["a.jpg", "sub/b.jpg", "c.jpg"]
    first, second, third = truth.images
    assert [instance.label for instance in first.instances] == [1, 0]
    decoded = masks.decode(first.masks(), HEIGHT, WIDTH)
    assert (decoded == [painted(3, 2, 8, 6), painted(0, 0, 2, 2)]).all()
    assert second.instances == third.instances == ()
    (void,) = masks.decode([second.void_mask()], HEIGHT, WIDTH)
    assert (void == painted(0, 0, 4, 1)).all()
    assert not masks.decode([first.void_mask()], HEIGHT, WIDTH).any()


def test_spaces_around_a_category_are_not_of_its_name(tmp_path):
    spaced = document()
    spaced["categories"][1]["name"] = " cat"
    path = write(tmp_path / "instances.json", spaced)
    plain = write(tmp_path / "plain.json", document())
    classes = ("cat", "dog")
    expected = coco_target.read_truth(plain, photographs(), classes)
    assert coco_target.read_truth(path, photographs(), classes) == expected


def test_other_classes_are_no_truth(tmp_path):
    path = write(tmp_path / "instances.json", document())
    truth = coco_target.read_truth(path, photographs(), ("dog",))
    assert [len(image.instances) for image in truth.images] == [1, 0, 0]
    # A crowd is no object.
    assert [image.other_objects for image in truth.images] == [1, 0, 0]


def test_an_object_without_a_mask_leaves_its_image_without_truth(tmp_path):
    changed = document()
    changed["annotations"][1]["segmentation"] = []
    path = write(tmp_path / "instances.json", changed)
    truth = coco_target.read_truth(path, photographs(), ("cat", "dog"))
    assert [image.id for image in truth.images] == ["sub/b.jpg", "c.jpg"]


def test_a_key_that_occurs_twice_is_refused(tmp_path):
    path = write(tmp_path / "instances.json", document())
    text = path.read_text()
    # Readers take the last: the cat would have become a dog.
    twice = text.replace('"category_id":', '"category_id": 1, "category_id":', 1)
    path.write_text(twice)
    with pytest.raises(InputError, match=r"instances\.json: key 'category_id' occurs 2 times"):
        coco_target.read_lists(path, tmp_path, ())
    path.write_text(text.replace('"images":', '"images": [], "images":', 1))
    with pytest.raises(InputError, match=r"instances\.json: key 'images' occurs 2 times"):
        coco_target.read_lists(path, tmp_path, ())


def changed(*path, value):
    content = document()
    at = content
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return content


SEGMENTATION = ("annotations", 0, "segmentation")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "not COCO annotations"),
        ({"images": []}, "not COCO annotations: annotations: Field required"),
        ({"images": [], "annotations": []}, "not COCO annotations: images"),
        (changed("images", 0, "file_name", value=""), "images.0.file_name"),
        (changed("images", 0, "height", value=-1), "images.0.height"),
        (changed("images", 0, "id", value=6), "images: id 6 occurs 2 times"),
        (changed("annotations", 0, "image_id", value=55), "1: no image has the id 55"),
        (
            changed("annotations", 0, "category_id", value=55),
            "1: no category has the id 55",
        ),
        (changed(*SEGMENTATION, value=[[1e300] * 6]), "annotation 1: no mask can be read"),
        (
            changed(*SEGMENTATION, value={"size": [1, 1], "counts": [1]}),
            "annotation 1: no mask can be read",
        ),
        (
            changed(
                *SEGMENTATION, value={"size": [HEIGHT, WIDTH], "counts": "zzzzzzzzzzzzzzzzzzzz"}
            ),
            "annotation 1: no mask can be read",
        ),
        (
            changed(*SEGMENTATION, value={"size": [HEIGHT, WIDTH], "counts": [-5, 125]}),
            "annotation 1: no mask can be read",
        ),
        (changed("images", 0, "height", value=2**63), "images.0.height"),
        (
            changed("images", 0, "height", value=True),
            "images.0.height: Input should be a valid int",
        ),
        (
            changed("images", 0, "height", value="10"),
            "images.0.height: Input should be a valid int",
        ),
        (changed(*SEGMENTATION, value=[["1", 1, 5, 1, 5, 5]]), "not a list of alternating x and y"),
        (changed(*SEGMENTATION, value=[{"a": 1}]), "a polygon is not a list"),
        (
            changed(*SEGMENTATION, value={"size": [HEIGHT, WIDTH], "counts": [119, True]}),
            "a run is not an integer",
        ),
        (changed("images", 0, "height", value=60_000), "annotation|60000 pixels"),
        (changed("images", 0, "width", value=10**8), "at most 80,000,000 are allowed"),
        (changed("annotations", value=None), "annotations"),
        (changed(*SEGMENTATION, value=[[10**400] * 6]), "annotation 1: no mask can be read"),
        (changed("images", 0, "width", value=13), "13 x 10 pixels, but the photograph has 12 x 10"),
    ],
)
def test_bad_annotations_are_refused(tmp_path, content, message):
    path = write(tmp_path / "instances.json", content)
    with pytest.raises(InputError, match=message) as refusal:
        read_all(path)
    assert "\n" not in str(refusal.value)


def test_missing_annotations_are_named(tmp_path):
    with pytest.raises(InputError, match=r"instances_train\.json: no such file"):
        coco_target.read_lists(tmp_path, tmp_path, ("train",))


def read_all(path):
    images = coco_target.read_lists(path, path.parent, ())[""]
    described = [
        Photograph(id=image.id, file="", height=HEIGHT, width=WIDTH, sha256="", tags=())
        for image in images
    ]
    return coco_target.read_truth(path, described, ("cat", "dog"))


NUMBER = st.one_of(st.integers(-3, 200), st.floats(-5, 1e9), st.just(10**30))
SHAPE = st.one_of(
    st.lists(st.lists(NUMBER, max_size=9), max_size=2),
    st.fixed_dictionaries(
        {
            "size": st.sampled_from([[HEIGHT, WIDTH], [WIDTH, HEIGHT], [0, 0], [10**9, 10**9]]),
            "counts": st.one_of(st.text(max_size=9), st.lists(NUMBER, max_size=4)),
        }
    ),
    st.none(),
)


@settings(deadline=None)
@given(shapes=st.lists(SHAPE, max_size=3), noise=st.binary(max_size=40))
def test_anything_is_annotations_or_a_clear_error(tmp_path_factory, shapes, noise):
    content = document()
    content["annotations"] = [annotation(n, 5, 7, shape) for n, shape in enumerate(shapes)]
    path = write(tmp_path_factory.getbasetemp() / "instances.json", content)
    with contextlib.suppress(InputError):
        for image in read_all(path).images:
            assert len(masks.decode(image.masks(), HEIGHT, WIDTH)) == len(image.instances)
    path.write_bytes(noise)
    with pytest.raises(InputError):
        read_all(path)
