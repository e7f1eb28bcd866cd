"""Every artifact: what is written is what is read, for any number of images, rows and values."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.artifacts import ragged
from pipeline.artifacts.draws import Draws, DrawStore, DrawWriter
from pipeline.artifacts.instances import Instances, InstanceStore, InstanceWriter
from pipeline.artifacts.peaks import Peaks, PeakStore, PeakWriter
from pipeline.artifacts.proposals import Proposals, ProposalStore, ProposalWriter
from pipeline.common import masks
from pipeline.common.errors import InputError

SEEDS = st.integers(0, 2**32 - 1)
COUNTS = st.lists(st.integers(0, 4), min_size=1, max_size=7)
SHORT = settings(max_examples=15, deadline=None)


@pytest.fixture(autouse=True)
def _short_parts(monkeypatch):
    """Three images a part, so that seven images make full and short parts."""
    monkeypatch.setattr(ragged, "IMAGES_A_PART", 3)


def random_masks(rng, count, height, width):
    return masks.encode(rng.random((count, height, width)) < rng.random())


def sizes(rng):
    return int(rng.integers(1, 30)), int(rng.integers(1, 30))


@SHORT
@given(COUNTS, SEEDS)
def test_proposals_round_trip(counts, seed):
    rng = np.random.default_rng(seed)
    images = []
    with TemporaryDirectory() as folder:
        with ProposalWriter(Path(folder), "test", "none", {"count": 4}) as writer:
            for number, count in enumerate(counts):
                height, width = sizes(rng)
                proposals = Proposals(
                    random_masks(rng, count, height, width), rng.random(count, np.float32)
                )
                images.append((height, width, proposals))
                writer.add(f"image {number}", height, width, proposals)
        store = ProposalStore(Path(folder))
        assert list(store) == [f"image {number}" for number in range(len(counts))]
        assert store.attributes["supervision"] == "none"
        for number, (height, width, proposals) in enumerate(images):
            read = store.proposals(f"image {number}")
            assert store.size(f"image {number}") == (height, width)
            assert read.masks == proposals.masks
            np.testing.assert_array_equal(read.score, proposals.score)


@SHORT
@given(COUNTS, SEEDS)
def test_instances_round_trip(counts, seed):
    rng = np.random.default_rng(seed)
    images = {}
    with TemporaryDirectory() as folder:
        with InstanceWriter(Path(folder), "predictions", ("a", "b"), {}) as writer:
            for number, count in enumerate(counts):
                height, width = sizes(rng)
                images[f"{number}"] = Instances(
                    random_masks(rng, count, height, width),
                    rng.integers(0, 2, count).astype(np.int16),
                    rng.random(count, np.float32),
                )
                writer.add(f"{number}", height, width, images[f"{number}"])
        store = InstanceStore(Path(folder))
        for name, instances in images.items():
            read = store.instances(name)
            assert read.masks == instances.masks
            np.testing.assert_array_equal(read.label, instances.label)
            np.testing.assert_array_equal(read.score, instances.score)


@SHORT
@given(COUNTS, SEEDS)
def test_peaks_round_trip(counts, seed):
    rng = np.random.default_rng(seed)
    images = {}
    with TemporaryDirectory() as folder:
        with PeakWriter(Path(folder), ("a", "b"), {}) as writer:
            for number, count in enumerate(counts):
                images[f"{number}"] = Peaks(
                    rng.integers(0, 2, count).astype(np.int16),
                    rng.integers(0, 9, count).astype(np.int32),
                    rng.integers(0, 9, count).astype(np.int32),
                    rng.normal(size=count).astype(np.float32),
                    rng.random((count, 5, 4), np.float32),
                )
                writer.add(f"{number}", 9, 9, images[f"{number}"])
        store = PeakStore(Path(folder))
        for name, peaks in images.items():
            for field, values in vars(store.peaks(name)).items():
                np.testing.assert_array_equal(values, getattr(peaks, field))
                assert values.dtype == getattr(peaks, field).dtype
            for field, values in vars(store.points(name)).items():
                np.testing.assert_array_equal(values, getattr(peaks, field))


@SHORT
@given(COUNTS, SEEDS)
def test_draws_round_trip(counts, seed):
    rng = np.random.default_rng(seed)
    images = {}
    with TemporaryDirectory() as folder:
        with DrawWriter(Path(folder), ("a",), {}) as writer:
            for number, count in enumerate(counts):
                candidates = [rng.integers(0, 99, rng.integers(1, 5)) for _ in range(count)]
                images[f"{number}"] = Draws(
                    np.zeros(count, np.int16),
                    [candidate.astype(np.int32) for candidate in candidates],
                    [rng.random(len(candidate), np.float32) for candidate in candidates],
                    rng.integers(0, 99, (count, 3)).astype(np.int32),
                    rng.random(count) < 0.5,
                )
                writer.add(f"{number}", 9, 9, images[f"{number}"])
        store = DrawStore(Path(folder))
        for name, draws in images.items():
            read = store.draws(name)
            np.testing.assert_array_equal(read.draw, draws.draw)
            np.testing.assert_array_equal(read.kept, draws.kept)
            for field in ("candidate", "probability"):
                for ours, theirs in zip(getattr(read, field), getattr(draws, field), strict=True):
                    np.testing.assert_array_equal(ours, theirs)


def write_peaks(folder, images):
    rng = np.random.default_rng(0)
    with PeakWriter(folder, ("a",), {}) as writer:
        for number in range(images):
            peaks = Peaks(
                np.zeros(1, np.int16),
                np.array([number], np.int32),
                np.array([number], np.int32),
                rng.random(1, np.float32),
                rng.random((1, 2, 2), np.float32),
            )
            if number >= writer.finished:
                writer.add(f"{number}", 50, 50, peaks)
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_writer_goes_on_where_one_was_killed_and_leaves_the_same_bytes(tmp_path):
    whole = write_peaks(tmp_path / "whole", 8)
    write_peaks(tmp_path / "cut", 8)
    # Killed in the second part: the first is whole, what came after is not there or half there.
    (tmp_path / "cut" / "part_00002").rename(tmp_path / "cut" / "unfinished")
    shutil.rmtree(tmp_path / "cut" / "part_00001")
    assert write_peaks(tmp_path / "cut", 8) == whole


def test_the_bytes_do_not_depend_on_the_order_in_which_a_file_system_lists_files(
    tmp_path, monkeypatch
):
    whole, glob = write_peaks(tmp_path / "one", 4), Path.glob
    monkeypatch.setattr(Path, "glob", lambda *of: reversed(list(glob(*of))))
    assert write_peaks(tmp_path / "other", 4) == whole


def test_xarray_opens_a_part_with_named_dimensions(tmp_path):
    write_peaks(tmp_path / "store", 3)
    part = xarray.open_zarr(tmp_path / "store" / "part_00000", consolidated=False)
    assert part["response"].dims == ("peak", "response_y", "response_x")
    assert part["peak_offset"].values.tolist() == [0, 1, 2, 3]
    assert "pixels" in part["y"].attrs["meaning"]


def test_few_files(tmp_path, monkeypatch):
    monkeypatch.setattr(ragged, "IMAGES_A_PART", 256)
    rng = np.random.default_rng(0)
    with ProposalWriter(tmp_path / "store", "test", "none", {}) as writer:
        for number in range(256):
            writer.add(
                f"{number}", 8, 8, Proposals(random_masks(rng, 2, 8, 8), rng.random(2, np.float32))
            )
    assert sum(path.is_file() for path in (tmp_path / "store").rglob("*")) <= 10


@pytest.mark.parametrize("missing", ["folder", "image"])
def test_what_is_not_there_is_named(tmp_path, missing):
    write_peaks(tmp_path / "store", 2)
    with pytest.raises(InputError, match=r"nowhere" if missing == "folder" else "holds no image x"):
        PeakStore(tmp_path / ("nowhere" if missing == "folder" else "store")).peaks("x")
