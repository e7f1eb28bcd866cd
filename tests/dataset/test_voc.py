import contextlib
import hashlib
import json
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.common import masks
from pipeline.common.errors import InputError
from pipeline.dataset import listing, voc
from pipeline.dataset.listing import Listing

HEIGHT, WIDTH = 12, 16
# In alphabetical order, as VOC numbers its classes: ant 1, cat 2, dog 3, tree 4.
NUMBERS = {"ant": 1, "cat": 2, "dog": 3, "tree": 4}
# Image -> its objects: class, difficult, the square (top, left, side).
OBJECTS = {
    "a": [("cat", 0, (1, 1, 4)), ("dog", 1, (6, 8, 5))],
    "b": [("dog", 0, (2, 2, 6))],
    "c": [("tree", 0, (0, 0, 3)), ("cat", 0, (4, 4, 3)), ("cat", 1, (8, 10, 3))],
    "d": [("ant", 0, (3, 3, 5))],
}
LISTS = {"train": ["a", "b", "c"], "val": ["d"], "small_train": ["b"]}


def flag(image, name):
    difficult = [d for kind, d, _ in OBJECTS[image] if kind == name]
    return -1 if not difficult else int(0 in difficult)


def annotation(image):
    objects = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult></object>"
        for name, difficult, _ in OBJECTS[image]
    )
    return f"<annotation>{objects}</annotation>"


def paint(image):
    """Instance and class numbers; every object has a void column at its left side."""
    objects, kinds = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    for number, (name, _, (top, left, side)) in enumerate(OBJECTS[image], 1):
        square = np.s_[top : top + side, left : left + side]
        objects[square], kinds[square] = number, NUMBERS[name]
        objects[top : top + side, left] = kinds[top : top + side, left] = 255
    return objects, kinds


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for image in OBJECTS:
        save(tmp_path / f"JPEGImages/{image}.jpg", rng.integers(0, 256, (HEIGHT, WIDTH, 3), "u1"))
        write(tmp_path / f"Annotations/{image}.xml", annotation(image))
    for image in "abd":  # c has no masks
        for kind, numbers in zip(("Object", "Class"), paint(image), strict=True):
            save(tmp_path / f"Segmentation{kind}/{image}.png", numbers)
    for name, images in LISTS.items():
        part = "Main" if name == "val" else "Segmentation"
        write(tmp_path / f"ImageSets/{part}/{name}.txt", "".join(f"{i}  1\n" for i in images))
        for kind in NUMBERS:
            lines = "".join(f"{i} {flag(i, kind):2d}\n" for i in images)
            write(tmp_path / f"ImageSets/Main/{kind}_{name}.txt", lines)
    return tmp_path


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    for module in (listing, voc):
        monkeypatch.setattr(module, "ordered_map", lambda call, items, workers: map(call, items))


def read_split(folder, name, classes, tags):
    listed = voc.read_list(folder, name, classes, tags)
    with TemporaryDirectory() as unfinished:  # another one for every call: nothing goes on
        notes = Path(unfinished) / "notes"
        return listing.index(Listing(folder, tuple(listed)), classes, name, notes)


@pytest.mark.parametrize("tags", ["main", "annotations"])
def test_tags_are_of_all_objects_difficult_ones_too(folder, tags):
    split = read_split(folder, "train", ("dog", "cat"), tags)
    assert [(p.id, p.tags) for p in split.photographs] == [
        ("a", ("dog", "cat")),
        ("b", ("dog",)),
        ("c", ("cat",)),
    ]
    assert (split.root, split.classes) == (str(folder), ("dog", "cat"))


def test_a_photograph_is_described_by_its_bytes_and_upright_size(folder):
    turned = Image.new("RGB", (WIDTH, HEIGHT)).getexif()
    turned[274] = 6  # EXIF: the camera was on its side
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "JPEGImages/d.jpg", exif=turned)
    (photograph,) = read_split(folder, "val", ("ant",), "main").photographs
    assert (photograph.height, photograph.width) == (WIDTH, HEIGHT)
    assert photograph.file == "JPEGImages/d.jpg"
    content = (folder / "JPEGImages/d.jpg").read_bytes()
    assert photograph.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("tags", ["main", "annotations"])
def test_a_split_does_not_depend_on_masks(folder, tags):
    before = read_split(folder, "train", ("cat", "dog"), tags)
    for path in folder.glob("Segmentation*/*.png"):
        path.unlink()
    for path in folder.glob("Segmentation*"):
        path.rmdir()
    after = read_split(folder, "train", ("cat", "dog"), tags)
    assert json.dumps(after.model_dump()) == json.dumps(before.model_dump())
    assert voc.read_truth(folder, "train", after).images == ()


def test_a_split_does_not_depend_on_boxes(folder):
    before = read_split(folder, "train", ("cat", "dog"), "annotations")
    box = "<bndbox><xmin>1</xmin></bndbox></object>"
    for path in folder.glob("Annotations/*.xml"):
        path.write_text(path.read_text().replace("</object>", box))
    assert read_split(folder, "train", ("cat", "dog"), "annotations") == before


def test_truth_is_what_was_painted(folder):
    split = read_split(folder, "train", ("dog", "cat"), "main")
    truth = voc.read_truth(folder, "train", split)
    assert [image.id for image in truth.images] == ["a", "b"]
    for image in truth.images:
        objects, _ = paint(image.id)
        decoded = masks.decode(image.masks(), HEIGHT, WIDTH)
        assert (decoded == [objects == n for n in range(1, len(decoded) + 1)]).all()
        names = [truth.classes[instance.label] for instance in image.instances]
        assert names == [name for name, _, _ in OBJECTS[image.id]]
        (void,) = masks.decode([image.void_mask()], HEIGHT, WIDTH)
        assert (void == (objects == 255)).all()


def test_pixels_without_a_class_have_no_vote(folder):
    objects, kinds = paint("b")
    for value in (0, 255):
        inside = np.argwhere(objects == 1)
        kinds[tuple(inside[:-1].T)] = value
        save(folder / "SegmentationClass/b.png", kinds)
        split = read_split(folder, "small_train", ("cat", "dog"), "main")
        (image,) = voc.read_truth(folder, "small_train", split).images
        assert [instance.label for instance in image.instances] == [1]


def test_instances_of_other_classes_are_background_and_counted(folder):
    truth = voc.read_truth(folder, "train", read_split(folder, "train", ("cat",), "main"))
    assert [len(image.instances) for image in truth.images] == [1, 0]
    assert [image.other_objects for image in truth.images] == [1, 1]
    assert all(image.has_objects for image in truth.images)


def test_an_image_of_background_has_no_objects(folder):
    nothing = np.zeros((HEIGHT, WIDTH), np.uint8)
    for kind in ("Object", "Class"):
        save(folder / f"Segmentation{kind}/b.png", nothing)
    split = read_split(folder, "small_train", ("cat", "dog"), "main")
    (image,) = voc.read_truth(folder, "small_train", split).images
    assert not image.has_objects


def test_the_class_of_an_instance_is_that_of_most_pixels(folder):
    objects, kinds = paint("b")
    inside = np.argwhere(objects == 1)
    # Of 30 pixels 12 have no class, 10 are of the dog, 8 of the cat.
    for numbers, value in ((inside[:6], 0), (inside[6:12], 255), (inside[12:20], NUMBERS["cat"])):
        kinds[tuple(numbers.T)] = value
    save(folder / "SegmentationClass/b.png", kinds)
    split = read_split(folder, "small_train", ("cat", "dog"), "main")
    (image,) = voc.read_truth(folder, "small_train", split).images
    assert [instance.label for instance in image.instances] == [1]


@pytest.mark.parametrize("in_main", [False, True])
def test_classes_are_told_from_lists_of_longer_names(folder, in_main):
    if in_main:
        (folder / "ImageSets/Segmentation/small_train.txt").unlink()
        write(folder / "ImageSets/Main/small_train.txt", "b\n")
    for name in ("train", "small_train"):
        tags = [image.tags for image in voc.read_list(folder, name, (), "main") if image.id == "b"]
        assert tags == [{"dog"}]


def test_without_lists_of_tags_annotations_number_the_classes(folder):
    split = read_split(folder, "train", ("cat", "dog"), "main")
    before = voc.read_truth(folder, "train", split)
    for path in folder.glob("ImageSets/Main/*_*.txt"):
        path.unlink()
    assert voc.read_truth(folder, "train", split) == before


def test_other_numbers_of_classes_are_noticed(folder):
    for image in "ab":
        _, kinds = paint(image)
        swapped = kinds.copy()
        swapped[kinds == NUMBERS["dog"]] = NUMBERS["ant"]
        swapped[kinds == NUMBERS["cat"]] = NUMBERS["ant"]
        save(folder / f"SegmentationClass/{image}.png", swapped)
    split = read_split(folder, "train", ("ant", "cat", "dog"), "main")
    with pytest.raises(InputError, match="in this order: ant, cat, dog, tree"):
        voc.read_truth(folder, "train", split)


def read(folder, name, tags):
    voc.read_truth(folder, name, read_split(folder, name, ("cat", "dog"), tags))


def refused(folder, message, name="train", tags="main"):
    with pytest.raises(InputError, match=message) as refusal:
        read(folder, name, tags)
    assert "\n" not in str(refusal.value)


def test_missing_folders_and_lists_are_named(folder):
    refused(folder / "elsewhere", "elsewhere: no such folder")
    refused(folder, "no list trian; available: small_train, train$", name="trian")
    (folder / "ImageSets/Main/dog_train.txt").unlink()
    refused(folder, r"dog_train\.txt: no such file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\n", "empty"),
        ("a\nz\n", "z is not in"),
        ("a\na\n", "a is listed twice"),
        ("../JPEGImages/a\n", "leaves the folder"),
        ("..\n", "leaves the folder"),
        ("x\\a\n", "leaves the folder"),
        ("d\n", r"cat_train\.txt: no tag for d"),
    ],
)
def test_bad_lists_are_refused(folder, content, message):
    write(folder / "ImageSets/Segmentation/train.txt", content)
    refused(folder, message)


@pytest.mark.parametrize("line", ["a 2", "a", "a 1 1"])
def test_bad_tags_are_refused(folder, line):
    write(folder / "ImageSets/Main/cat_train.txt", line)
    refused(folder, f"'{line}': expected an image id and 1, 0 or -1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotation><object>", "broken XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "broken XML"),
        ("<annotation><object></object></annotation>", "an object has no name"),
    ],
)
def test_bad_annotations_are_refused(folder, content, message):
    write(folder / "Annotations/b.xml", content)
    refused(folder, rf"b\.xml: .*{message}", tags="annotations")


def test_missing_annotations_are_refused(folder):
    (folder / "Annotations/b.xml").unlink()
    refused(folder, r"b\.xml: no such annotation", tags="annotations")


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_an_annotation_that_is_no_file_of_the_folder(folder, tmp_path_factory, kind):
    path = folder / "Annotations/b.xml"
    outside = path.rename(tmp_path_factory.mktemp("outside") / "b.xml")
    if kind == "link":
        path.symlink_to(outside)
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    message = {"link": "a link to a file outside", "folder": "no such annotation", "pipe": "not a"}
    with pytest.raises(InputError, match=rf"b\.xml: {message[kind]}"):
        voc.read_list(folder, "train", (), "annotations")


@pytest.mark.parametrize("name", ["Segmentation/train", "Main/dog_train"])
def test_a_list_that_is_a_link_out_of_the_folder(folder, tmp_path_factory, name):
    path = folder / f"ImageSets/{name}.txt"
    path.symlink_to(path.rename(tmp_path_factory.mktemp("outside") / "list.txt"))
    refused(folder, rf"{name}\.txt: a link to a file outside")


def test_a_truncated_photograph_is_named(folder):
    path = folder / "JPEGImages/b.jpg"
    path.write_bytes(path.read_bytes()[:-100])
    refused(folder, re.escape(f"{path}: broken image"))


def test_bad_masks_are_refused(folder):
    objects, kinds = paint("b")
    path = folder / "SegmentationClass/b.png"
    save(path, kinds[:-1])
    refused(folder, r"Class/b\.png: 16 x 11 pixels, but the photograph has 16 x 12")
    save(path, np.stack([kinds] * 3, axis=-1))
    refused(folder, r"Class/b\.png: expected a PNG with a palette, not mode RGB")
    save(path, np.where(kinds == NUMBERS["dog"], 9, kinds).astype("u1"))
    refused(folder, "instance 1 has class 9; classes are 1 to 4: ant, cat, dog, tree")
    save(path, np.zeros_like(kinds))
    refused(folder, "instance 1 has class 0")
    path.unlink()
    refused(folder, r"Class/b\.png: no such image")
    save(folder / "SegmentationObject/b.png", objects)
    (folder / "SegmentationObject/b.png").write_bytes(b"no image")
    refused(folder, r"Object/b\.png: not an image")


MARKS = ["<annotation>", "</annotation>", "<object>", "</object>", "<name>", "</name>", "cat"]
HOSTILE = ['<!DOCTYPE a SYSTEM "file:///etc/passwd">', '<!ENTITY b "c">', "&b;", "&#0;", "]]>"]


@settings(deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.lists(st.sampled_from(MARKS + HOSTILE)).map(lambda parts: "".join(parts).encode()),
    )
)
def test_any_annotation_gives_names_or_a_clear_error(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp()
    write(folder / "Annotations/a.xml", "")
    (folder / "Annotations/a.xml").write_bytes(content)
    with contextlib.suppress(InputError):
        assert "" not in voc._object_names(folder, "a")
