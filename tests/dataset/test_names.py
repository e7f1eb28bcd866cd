"""Names of tags and files: what no table or message could show is refused."""

import json

import pytest

from pipeline.common.errors import InputError
from pipeline.dataset import index
from tests.support.dataset import parameters


def listings(folder, tags):
    (folder / "tags.csv").write_text("image,tags\n" + tags)
    changed = {"kind": "folder", "path": str(folder), "tags": str(folder / "tags.csv")}
    return index.read_listings(parameters(**changed), folder)


@pytest.mark.parametrize("tag", ["cat\x07", "\x1b[2J", "cat\u2028dog", "c\0t", "c" * 300, "\u200b"])
def test_tags_that_are_no_names_are_refused(tmp_path, tag):
    with pytest.raises(InputError, match="a tag is one line of 1 to 200 characters") as refusal:
        listings(tmp_path, f"a.jpg,{tag}\nb.jpg,{tag}\n")
    assert len(str(refusal.value).splitlines()) == 1


def test_tags_of_any_script_are_taken(tmp_path):
    names = ["chat\xa0noir", "\u732b", "\u0645\u06cc\u200c", "\U0001f408\u200d\u2b1b"]
    read = listings(tmp_path, "".join(f"{n}.jpg,{tag}\n" for n, tag in enumerate(names * 9)))
    assert set(read["train"].tags()) | set(read["val"].tags()) == set(names)


def test_a_name_in_two_unicode_forms_is_refused(tmp_path):
    """In COCO's files; tables are read in one form."""
    for name, tag in (("train", "\u00e9"), ("val", "e\u0301")):
        document = {
            "images": [{"id": 1, "file_name": "a.jpg", "height": 3, "width": 4}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1}],
            "categories": [{"id": 1, "name": tag}],
        }
        (tmp_path / f"instances_{name}.json").write_text(json.dumps(document))
    changed = {"kind": "coco", "path": str(tmp_path), "tags": str(tmp_path)}
    with pytest.raises(InputError, match=r"tags 'e\\u0301' and '\\xe9' are one name"):
        index.read_listings(parameters(**changed, train="train", val="val"), tmp_path)


def test_a_line_break_inside_quotes_is_no_tag(tmp_path):
    with pytest.raises(InputError, match=r"tag 'cat\\ndog': a tag is one line"):
        listings(tmp_path, 'a.jpg,"cat\ndog"\nb.jpg,"cat\ndog"\n')
