import pytest

from pipeline.common.errors import InputError
from pipeline.delivery.new_photographs import photographs, unique_names


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("b.jpg", "a.PNG", "notes.txt", "deep/c.webp", "deep/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("places", "found"),
    [
        (["."], ["a.PNG", "b.jpg"]),
        (["deep"], ["deep/a.png", "deep/c.webp"]),
        (["deep/c.webp", "."], ["deep/c.webp", "a.PNG", "b.jpg"]),
        (["*.jpg"], ["b.jpg"]),
        (["**/*.[pP][nN][gG]"], ["a.PNG", "deep/a.png"]),
        (["b.jpg", "*.jpg", "."], ["b.jpg", "a.PNG"]),
        (["absent.jpg"], ["absent.jpg"]),  # which cannot be read, as it will be said of it
    ],
)
def test_folders_files_and_patterns(folder, places, found):
    assert list(map(str, photographs(places))) == found


@pytest.mark.parametrize("place", ["empty", "*.gif"])
def test_places_without_a_photograph_are_named(folder, place):
    (folder / "empty").mkdir()
    with pytest.raises(InputError) as refusal:
        photographs([".", place])
    assert str(refusal.value).startswith(f"{place}: no photograph here (.jpg, ")


def test_a_name_that_looks_like_a_pattern_is_a_file(folder):
    (folder / "d[1].jpg").touch()
    assert list(map(str, photographs(["d[1].jpg"]))) == ["d[1].jpg"]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a.jpg", "b.jpg"], ["a", "b"]),
        (["a.jpg", "deep/a.jpg", "b.jpg"], ["a-1", "a-2", "b"]),
        (["a.jpg", "A.png"], ["a-1", "A-2"]),
        (["a.jpg", "a.png", "a-1.jpg"], ["a-2", "a-3", "a-1"]),
    ],
)
def test_names_are_told_apart(folder, paths, names):
    assert unique_names([folder / path for path in paths]) == names
