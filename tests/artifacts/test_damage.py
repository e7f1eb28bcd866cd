"""Damaged stores: the damage is noticed and the file named; nothing is read as something else."""

import random
import shutil

import numpy as np
import pytest

from pipeline.artifacts import ragged
from pipeline.artifacts.draws import Draws, DrawStore, DrawWriter
from pipeline.common.errors import InputError

IMAGES = 5


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store of two parts: a column of zeros, nested columns, one with an axis."""
    place = tmp_path_factory.mktemp("damage") / "sampler" / "train"
    rng = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch, DrawWriter(place, ("cat",), {"seed": 1}) as writer:
        patch.setattr(ragged, "IMAGES_A_PART", 3)
        for number in range(IMAGES):
            candidates = [rng.integers(0, 99, 4).astype(np.int32) for _ in range(number)]
            draws = Draws(
                np.zeros(number, np.int16),
                candidates,
                [rng.random(4, np.float32) for _ in candidates],
                rng.integers(0, 99, (number, 3)).astype(np.int32),
                np.ones(number, bool),
            )
            writer.add(f"{number}", 9, 8, draws)
    return place


@pytest.fixture
def store(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "sampler" / "train")


def content(place):
    """All that a store says."""
    store = DrawStore(place)
    values = [
        [np.asarray(rows).tolist() for rows in (draws.label, *draws.candidate, draws.draw)]
        + [[part.tolist() for part in draws.probability], store.size(name)]
        for name in store
        for draws in [store.draws(name)]
    ]
    return [list(store), values, store.attributes]


def said(place):
    """The content, or that it was refused with an advice."""
    try:
        return content(place)
    except InputError as error:
        return "refused" if "dvc repro" in str(error) else error


def files(place):
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


def refused(place, named):
    with pytest.raises(InputError) as refusal:
        content(place)
    message = str(refusal.value)
    assert message.startswith(str(place / named)), message
    assert message.endswith("; to make it again: dvc repro sampler"), message


DAMAGE = {
    "missing": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-5]),
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_every_file_is_needed(store, whole, damage):
    for name in files(store):
        DAMAGE[damage](store / name)
        if (name, damage) == ("zarr.json", "missing"):
            with pytest.raises(InputError, match="no such store"):
                content(store)
        else:
            refused(store, name)
        shutil.copy(whole / name, store / name)


def test_a_bit_that_flips_is_noticed(store, whole):
    expected, rng = content(whole), random.Random(0)
    for name in files(store):
        good = (whole / name).read_bytes()
        for _ in range(6):
            bad = bytearray(good)
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
            (store / name).write_bytes(bad)
            assert said(store) in (expected, "refused"), name
        (store / name).write_bytes(good)


def test_columns_and_parts_that_changed_places(store, whole):
    one, other = store / "part_00001" / "candidate", store / "part_00001" / "probability"
    one.rename(store / "kept")
    other.rename(one)
    (store / "kept").rename(other)
    refused(store, "part_00001/candidate/c.0")
    shutil.rmtree(store)
    shutil.copytree(whole, store)
    shutil.rmtree(store / "part_00001")
    refused(store, "part_00001/zarr.json: damaged (missing)")


def test_a_store_that_was_not_finished_is_not_read(tmp_path):
    writer = DrawWriter(tmp_path / "sampler" / "train", ("cat",), {})
    writer.add(
        "one",
        9,
        9,
        Draws(np.zeros(0, np.int16), [], [], np.zeros((0, 3), np.int32), np.zeros(0, bool)),
    )
    refused(tmp_path / "sampler" / "train", "zarr.json")


def test_what_an_interrupted_writer_left_is_checked_too(store):
    damaged = store / "part_00000" / "peak_offset" / "c.0"
    damaged.unlink()
    with pytest.raises(
        InputError, match=r"peak_offset/c\.0: damaged \(missing\); remove .* and run"
    ):
        DrawWriter(store, ("cat",), {"seed": 1})


def test_files_that_a_file_manager_leaves_do_no_harm(store, whole):
    (store / "part_00000" / "label" / ".DS_Store").touch()
    assert content(store) == content(whole)
