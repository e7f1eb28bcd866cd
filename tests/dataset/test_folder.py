"""Tables of tags in every shape that spreadsheets write, and in those that they should not."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.common.errors import InputError
from pipeline.dataset.folder import read_table

TAGS = {"a.jpg": {"cat", "dog"}, "b/ä.png": {"dog"}, "c.tif": set()}
SHAPES = {
    "a cell": "image,tags\na.jpg,cat;dog\nb/ä.png,dog\nc.tif,\n",
    "rows": "image,tag\na.jpg,cat\nb/ä.png,dog\nc.tif,\na.jpg,dog\n",
    "columns": "image,cat,dog\na.jpg,1,1\nb/ä.png,0,1\nc.tif,0,0\n",
    "semicolons": 'image;tags\na.jpg;"cat; dog"\nb/ä.png;dog\nc.tif;\n',
    "tabulators": "image\ttags\na.jpg\tcat;dog\nb/ä.png\tdog\nc.tif\t\n",
    "other order": "tags,Image\ncat;dog,a.jpg\ndog,b/ä.png\n,c.tif\n",
    "blank rows": "image,tags\n\na.jpg,cat;dog\n,\nb/ä.png,dog\nc.tif,\n\n",
    "carriage returns": "image,tags\r\na.jpg,cat;dog\r\nb/ä.png,dog\r\nc.tif,\r\n",
    "quotes": '"image","tags"\n"a.jpg","cat;dog;"\n"b/ä.png","dog"\n"c.tif",""\n',
    "a byte order mark": "\ufeffimage,tags\na.jpg,cat;dog\nb/ä.png,dog\nc.tif,\n",
    "Hugging Face's tags": "file_name,labels\na.jpg,cat;dog\nb/ä.png,dog\nc.tif,\n",
    "Hugging Face's labels": "File_Name,label\na.jpg,cat\nb/ä.png,dog\nc.tif,\na.jpg,dog\n",
    "Hugging Face's columns": "cat,file_name,dog\n1,a.jpg,1\n0,b/ä.png,1\n0,c.tif,0\n",
}
LINES = {
    "lists": """\
{"file_name": "a.jpg", "tags": ["cat", "dog"]}
{"tags": ["dog"], "file_name": "b/ä.png"}
{"file_name": "c.tif", "tags": []}
""",
    "labels": """\ufeff\
{"file_name": "a.jpg", "label": "cat"}\r
{"file_name": "b/\\u00e4.png", "label": "dog"}\r
\r
{"file_name": "c.tif", "label": null}\r
{"file_name": "a.jpg", "label": "dog"}""",
    "classes": """\
{"image": "a.jpg", "cat": true, "dog": 1}
{"image": "b/ä.png", "cat": false, "dog": 1}
{"image": "c.tif", "cat": 0, "dog": 0}
""",
}


def table(folder, content, name="tags.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_says_the_same(tmp_path, shape):
    lists = read_table(table(tmp_path, SHAPES[shape]))
    assert set(lists) == {""}
    assert {image.file: image.tags for image in lists[""]} == TAGS


@pytest.mark.parametrize("shape", LINES)
def test_every_form_of_metadata_jsonl_says_the_same(tmp_path, shape):
    lists = read_table(table(tmp_path, LINES[shape], "metadata.jsonl"))
    assert set(lists) == {""}
    assert {image.file: image.tags for image in lists[""]} == TAGS


def test_metadata_jsonl_may_name_the_list(tmp_path):
    content = '{"file_name": "a.jpg", "label": "cat", "split": "train"}\n'
    content += '{"file_name": "b.jpg", "label": "cat", "split": "val"}\n'
    lists = read_table(table(tmp_path, content, "metadata.jsonl"))
    assert {name: [i.id for i in of_list] for name, of_list in lists.items()} == {
        "train": ["a.jpg"],
        "val": ["b.jpg"],
    }


def test_tags_may_have_commas_quotes_and_other_scripts(tmp_path):
    content = 'image,tags\na.jpg,"cat, ""big"";猫; кот"\n'
    (image,) = read_table(table(tmp_path, content))[""]
    assert image.tags == {'cat, "big"', "猫", "кот"}


def test_letters_are_equal_however_they_are_composed(tmp_path):
    content = "image,tags\na.jpg,ha\u0308nsel\nb.jpg,h\u00e4nsel\n"
    one, other = read_table(table(tmp_path, content))[""]
    assert one.tags == other.tags == {"h\u00e4nsel"}


@pytest.mark.parametrize(
    "content",
    [
        "image,tags,split\na.jpg,cat,train\nb.jpg,,val\n",
        "image,tag,split\na.jpg,cat,train\nb.jpg,,val\n",
        "split,image,cat\ntrain,a.jpg,1\nval,b.jpg,0\n",
    ],
)
def test_a_column_may_name_the_list(tmp_path, content):
    lists = read_table(table(tmp_path, content))
    assert {name: [image.id for image in images] for name, images in lists.items()} == {
        "train": ["a.jpg"],
        "val": ["b.jpg"],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: no column 'image'"),
        ("file,tags\na.jpg,cat\n", "line 1: no column 'image'"),
        ("image\na.jpg\n", "line 1: no tags"),
        ("image,split\na.jpg,train\n", "line 1: no tags"),
        ("image,tags,cat\na.jpg,cat,1\n", "besides image and split"),
        ("image,tag,tags\na.jpg,cat,cat\n", "besides image and split"),
        ("image,cat,cat\na.jpg,1,1\n", "column 'cat' occurs twice"),
        ("image,cat,\na.jpg,1,1\n", "a column has no name"),
        ("image,tags\n", "no images below the header"),
        ("image,tags\na.jpg\n", "line 2: 1 cells, but the header has 2"),
        ("image,tags\na.jpg,cat,dog\n", "line 2: 3 cells, but the header has 2"),
        ("image,tags\n,cat\n", "line 2: the image is missing"),
        ("image,cat\na.jpg,2\n", "line 2: cat is '2', but must be 0 or 1"),
        ("image,tags\na.jpg,cat\na.jpg,dog\n", r"line 3: a\.jpg is listed again"),
        ("image,tag,split\na.jpg,cat,train\na.jpg,dog,val\n", r"a\.jpg has another split"),
        ("image,tags\na.jpg,cat\n./a.jpg,dog\n", r"line 3: \./a\.jpg is listed again"),
        ("image,tags\n\u00e4.jpg,cat\na\u0308.jpg,dog\n", "line 3: .* is listed again"),
        ("x" * 140_000 + ",image\n", "line 1: 140006 characters"),
        ("image,tags\ra.jpg,cat\r", "line 1: not CSV"),
        ("image,tags\na.jpg," + "x" * 140_000, "not CSV after line 1"),
        ('image,tags\n"a.jpg,cat\n', "not CSV after line"),
        ("image,tags\nä.jpg,cat\n".encode("latin-1"), "not UTF-8"),
        ("image,tags\na.jpg,cat\n".encode("utf-16"), "not UTF-8"),
    ],
)
def test_bad_tables_are_refused(tmp_path, content, message):
    with pytest.raises(InputError, match=message) as refusal:
        read_table(table(tmp_path, content))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no images"),
        ("\n \n", "no images"),
        ("file_name,tags", "line 1: not JSON"),
        ('{"file_name": "a.jpg", "tags": ["cat"]', "line 1: not JSON"),
        ('["a.jpg", "cat"]', "line 1: must be an object"),
        ('{"path": "a.jpg", "label": "cat"}', "line 1: no key 'file_name'"),
        ('{"file_name": "a.jpg"}', "line 1: no tags"),
        ('{"file_name": "a.jpg", "label": "cat", "text": "x"}', "besides image and split"),
        ('{"file_name": "a.jpg", "image": "a.jpg", "label": "cat"}', "the same meaning"),
        ('{"file_name": "a.jpg", "label": "cat", "label": "dog"}', "key 'label' occurs 2 times"),
        ('{"file_name": "a.jpg", "label": 0}', "line 1: tag must be a name"),
        ('{"file_name": "a.jpg", "tags": "cat"}', "line 1: tags must be a list of names"),
        ('{"file_name": "a.jpg", "tags": [["cat"]]}', "line 1: tags must be a list of names"),
        ('{"file_name": "a.jpg", "cat": "1"}', "line 1: cat must be 0 or 1"),
        ('{"file_name": 7, "label": "cat"}', "line 1: the name of the image is missing"),
        ('{"file_name": " ", "label": "cat"}', "line 1: the name of the image is missing"),
        ('{"file_name": "\\ud800.jpg", "label": "cat"}', "line 1: not JSON"),
        ('{"file_name": "a.jpg", "label": "cat", "split": 1}', "line 1: split must be a name"),
        ('{"file_name": "a.jpg", "cat": 1}\n{"file_name": "b.jpg"}', "line 2: other keys"),
        ('{"file_name": "a.jpg", "cat": ' + "9" * 5000 + "}", "line 1: not JSON"),
        ("[" * 100_000, "line 1: not JSON"),
        (2 * '{"file_name": "a.jpg", "tags": []}\n', r"line 2: a\.jpg is listed again"),
    ],
)
def test_bad_lines_of_json_are_refused(tmp_path, content, message):
    with pytest.raises(InputError, match=message) as refusal:
        read_table(table(tmp_path, content, "metadata.jsonl"))
    assert "\n" not in str(refusal.value)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(InputError, match=r"tags\.csv: no such file"):
        read_table(tmp_path / "tags.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path)


CELL = st.text(st.sampled_from('a1é;,"\t\n\r\0 =猫.'), max_size=6)
HEADER = st.lists(st.sampled_from(["image", "tags", "tag", "split", "cat", ""]), max_size=4)


@settings(deadline=None)
@given(
    content=st.one_of(
        st.binary(max_size=60),
        st.tuples(HEADER, st.sampled_from(",;\t"), st.lists(st.lists(CELL, max_size=4))).map(
            lambda t: "\n".join(t[1].join(row) for row in [t[0], *t[2]]).encode()
        ),
    )
)
def test_anything_is_a_table_or_a_clear_error(tmp_path_factory, content):
    path = table(tmp_path_factory.getbasetemp(), content)
    with contextlib.suppress(InputError):
        images = [image for of_list in read_table(path).values() for image in of_list]
        assert images
        assert all(image.file.strip() for image in images)
        assert len({image.id for image in images}) == len(images)
