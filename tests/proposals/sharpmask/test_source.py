import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco_mask

from pipeline.common.errors import InputError
from pipeline.common.segmentation import segmentation_rle
from pipeline.proposals.sharpmask.source import read_source

HEIGHT, WIDTH = 30, 40
WHOLE = coco_mask.encode(np.asfortranarray(np.tri(HEIGHT, WIDTH), np.uint8))["counts"].decode()
STOPS_SHORT = WHOLE[: len(WHOLE) // 2]


def annotation(number: int, segmentation: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": 1,
        "category_id": 7,
        "iscrowd": 0,
        "segmentation": segmentation,
        **more,
    }


def square(left: int, top: int, right: int, bottom: int) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def runs_of(mask: np.ndarray) -> list[int]:
    """Uncompressed runs down the columns, background first: written out here, not by a library."""
    runs, current = [0], False
    for value in mask.T.ravel():
        if value != current:
            runs.append(0)
            current = value
        runs[-1] += 1
    return runs


@pytest.fixture
def write(tmp_path: Path):
    def write(annotations: list[dict[str, Any]]) -> Path:
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images" / "a.png")
        images = [{"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}]
        document = {"images": images, "annotations": annotations, "categories": []}
        (tmp_path / "instances.json").write_text(json.dumps(document))
        return tmp_path

    return write


def test_all_three_forms_of_a_mask_are_the_same_mask(write):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[5:15, 10:30] = True
    compressed = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    folder = write(
        [
            annotation(1, [square(10, 5, 30, 15)]),
            annotation(2, {"size": [HEIGHT, WIDTH], "counts": runs_of(mask)}),
            annotation(3, {"size": [HEIGHT, WIDTH], "counts": compressed["counts"].decode()}),
        ]
    )
    [image] = read_source(folder)
    assert len(image.objects) == 3
    for thing in image.objects:
        np.testing.assert_array_equal(image.mask(thing), mask)
        assert thing.box == (10, 5, 20, 10)
        assert thing.category == 7


def test_polygons_of_one_object_are_joined(write):
    [image] = read_source(write([annotation(1, [square(0, 0, 5, 5), square(20, 10, 30, 20)])]))
    [thing] = image.objects
    assert image.mask(thing).sum() == 25 + 100
    assert thing.box == (0, 0, 30, 20)


def test_crowds_are_boxes_and_empty_annotations_are_nothing(write):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[2:6, 3:11] = True
    nothing = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}
    folder = write(
        [
            annotation(1, {"size": [HEIGHT, WIDTH], "counts": runs_of(mask)}, iscrowd=1),
            annotation(2, []),
            annotation(3, [[4, 4, 9, 9]]),
            annotation(4, [square(8, 8, 8, 8)]),
            annotation(5, nothing, bbox=[0, 0, 0, 0]),
        ]
    )
    [image] = read_source(folder)
    assert image.objects == ()
    assert image.crowds == ((3, 2, 8, 4),)


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        ({"size": [WIDTH, HEIGHT], "counts": [WIDTH * HEIGHT]}, "but the image has"),
        ({"size": [HEIGHT, WIDTH], "counts": [5, 5]}, "10 pixels, not 1200"),
        ({"size": [HEIGHT, WIDTH], "counts": [1210, -10]}, "a run is not an integer"),
        ({"size": [HEIGHT, WIDTH], "counts": STOPS_SHORT}, "annotation 9.*not 1200"),
        ({"size": [HEIGHT, WIDTH], "counts": "P"}, "is truncated"),
        ({"size": [HEIGHT, WIDTH]}, "no 'counts'"),
        ([[1, 1, float("nan"), 5, 5, 5]], "beyond 80 pixels, or not a number"),
        ([[1, 1, 1e9, 5, 5, 5]], "beyond 80 pixels"),
        ([[1, 1, 9, 1, 9, 9, 4]], "alternating x and y"),
        ({"size": [HEIGHT, WIDTH], "counts": "z" * 60}, "annotation 9"),
        ({"size": [HEIGHT, WIDTH], "counts": ""}, "is empty or has an invalid"),
        (None, "annotations.0.segmentation"),
    ],
)
def test_a_broken_mask_is_named(write, segmentation, said):
    with pytest.raises(InputError, match=said):
        read_source(write([annotation(9, segmentation)]))


def test_an_inverted_box_is_not_believed(write):
    """Boxes are made from masks."""
    segmentation = [square(10, 5, 30, 15)]
    folder = write(
        [
            annotation(1, segmentation, bbox=[30, 15, -20, -10]),
            annotation(2, segmentation, bbox=[0, 0, 0, 0]),
        ]
    )
    [image] = read_source(folder)
    assert [thing.box for thing in image.objects] == [(10, 5, 20, 10)] * 2


@given(arrays(bool, (HEIGHT, WIDTH)))
@settings(max_examples=50, deadline=None)
def test_a_compressed_code_comes_through_as_it_is(mask):
    code = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    segmentation = {"size": [HEIGHT, WIDTH], "counts": code["counts"].decode()}
    assert segmentation_rle(segmentation, HEIGHT, WIDTH, "here") == code


def runs_in(code: str) -> list[int]:
    """The runs of a code as COCO's C source reads it, character by character."""
    runs, value, shift = [], 0, 0
    for digit in (ord(character) - 48 for character in code):
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        if digit & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    return runs


ANY = st.text("".join(map(chr, range(48, 112))), min_size=1)
BEGINNING = st.integers(1, len(WHOLE)).map(lambda length: WHOLE[:length])


@given(ANY | BEGINNING)
@settings(max_examples=300, deadline=None)
def test_a_code_that_does_not_fill_the_image_is_refused(code):
    runs = runs_in(code)
    breaks_off = ord(code[-1]) - 48 >= 32
    is_whole = not breaks_off and sum(runs) == HEIGHT * WIDTH and min(runs) >= 0
    segmentation = {"size": [HEIGHT, WIDTH], "counts": code}
    if is_whole:
        assert segmentation_rle(segmentation, HEIGHT, WIDTH, "here")
        return
    with pytest.raises(InputError, match="here: no mask can be read"):
        segmentation_rle(segmentation, HEIGHT, WIDTH, "here")


@pytest.mark.parametrize("name", ["../outside.png", "/etc/hostname", "link.png", "a\0.png", ".."])
def test_no_image_is_read_from_elsewhere(write, name):
    folder = write([])
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "outside.png")
    (folder / "images" / "link.png").symlink_to(folder / "outside.png")
    document = json.loads((folder / "instances.json").read_text())
    document["images"][0]["file_name"] = name
    (folder / "instances.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"not a path inside|a link to a file outside"):
        read_source(folder)


def test_what_is_missing_is_named(write, tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        read_source(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"instances\.json: missing"):
        read_source(tmp_path)
    folder = write([])
    (folder / "images" / "a.png").unlink()
    with pytest.raises(InputError, match=r"a\.png: missing"):
        read_source(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "not COCO"),
        ('{"images": []}', "annotations: Field required"),
        (
            '{"images": [], "annotations": [{"id": 1, "image_id": 4, "category_id": 1}]}',
            "no image has the id 4 of an annotation",
        ),
    ],
)
def test_what_is_not_coco_is_refused(tmp_path, text, said):
    (tmp_path / "instances.json").write_text(text)
    with pytest.raises(InputError, match=said):
        read_source(tmp_path)


def test_an_image_of_another_size_is_refused(write):
    folder = write([])
    Image.new("RGB", (WIDTH, HEIGHT + 1)).save(folder / "images" / "a.png")
    [image] = read_source(folder)
    with pytest.raises(InputError, match=r"40 x 31 pixels, but 40 x 30 in instances\.json"):
        image.pixels()
