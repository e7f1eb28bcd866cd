import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.artifacts.weights import write_weights
from pipeline.common import masks
from pipeline.common.errors import InputError
from pipeline.execution.pool import ordered_map
from pipeline.proposals.grouping import Grouper
from pipeline.proposals.methods import supervision
from pipeline.proposals.parameters import ProposalsParameters
from pipeline.proposals.sharpmask import inference
from pipeline.proposals.sharpmask.inference import (
    PyramidParameters,
    SharpMaskProposer,
    _place,
    _place_on_gpu,
    _scan,
    _span,
    propose_all,
    propose_windows,
)
from pipeline.proposals.sharpmask.network import PATCH, STRIDE, WINDOW, SharpMask
from tests.support.tiny import SHARPMASK as DESCRIPTION

PYRAMID_VALUES = {
    "min_scale": -1.0,
    "max_scale": 0.0,
    "octave_step": 0.5,
    "mask_threshold": 0.2,
    "nms_threshold": 1.0,
    "flip": False,
}
GROUPING_VALUES = {
    "image_size": 64,
    "color_spaces": ["lab"],
    "scales": [50.0],
    "min_superpixel_area": 10,
    "min_area": 0.002,
    "paired_regions": 5,
}
VALUES = {
    "method": "sharpmask",
    "source": "data/sharpmask/weights.safetensors",
    "supervision": "",
    "max_proposals": 20,
    "sharpmask": PYRAMID_VALUES,
    "grouping": GROUPING_VALUES,
    "sam": {"points_per_side": 2, "nms_threshold": 1.0},
}
PARAMETERS = ProposalsParameters.parse(VALUES, "proposals")
PYRAMID = PARAMETERS.sharpmask


@pytest.fixture(scope="module")
def network() -> SharpMask:
    torch.manual_seed(0)
    network = SharpMask(DESCRIPTION, "none").eval()
    with torch.no_grad():
        for parameter in network.refinement.parameters():
            parameter.mul_(2)
    return network


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8)


def test_proposals_are_at_the_images_size_and_best_first(network, image):
    proposals = propose_windows(network, image, PYRAMID, 20)
    assert 0 < len(proposals.masks) <= 20
    assert proposals.score.dtype == np.float32
    assert len(proposals.masks) == len(proposals.score)
    assert np.all(np.diff(proposals.score) <= 0)
    assert np.all((proposals.score >= 0) & (proposals.score <= 1))
    assert all(rle["size"] == [90, 130] for rle in proposals.masks)
    assert np.all(masks.area(proposals.masks) > 0)


def test_the_best_of_few_are_the_first_of_many(network, image):
    many = propose_windows(network, image, PYRAMID, 20)
    few = propose_windows(network, image, PYRAMID, 5)
    np.testing.assert_allclose(few.score, many.score[: len(few.score)], rtol=1e-6)
    ious = np.diag(masks.iou(few.masks, many.masks[: len(few.masks)]))
    assert ious.min() > 0.99


def test_scores_are_of_all_scales_together(network, image):
    best = propose_windows(network, image, PYRAMID.model_copy(update={"mask_threshold": 1e-6}), 3)
    levels = [_scan(network, [image], scale, flip=False)[0] for scale in PYRAMID.scales()]
    scores = [level.scores.ravel() for level in levels]
    expected = np.sort(np.concatenate(scores))[::-1][:3]
    np.testing.assert_allclose(best.score, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 300, 3), (40, 30, 3)])
def test_images_smaller_than_a_window(network, shape):
    small = np.full(shape, 99, np.uint8)
    proposals = propose_windows(
        network, small, PYRAMID.model_copy(update={"mask_threshold": 0.01}), 20
    )
    assert all(rle["size"] == [*shape[:2]] for rle in proposals.masks)


def test_an_image_without_any_mask(network, image):
    parameters = PYRAMID.model_copy(update={"mask_threshold": 1 - 1e-9})
    proposals = propose_windows(network, image, parameters, 20)
    assert proposals.masks == []
    assert proposals.score.shape == (0,)


def test_window_centres_cover_the_image(network, image):
    [level] = _scan(network, [image], 1.0, flip=False)
    rows, columns = level.scores.shape
    assert (rows - 1) * STRIDE >= 90 > (rows - 2) * STRIDE
    assert (columns - 1) * STRIDE >= 130 > (columns - 2) * STRIDE


def test_a_window_is_scored_as_the_patch_around_its_centre(network):
    """Where a patch's own border is the image's, both see the same pixels and padding."""
    image = np.random.default_rng(0).integers(0, 256, (1, 1, 3), np.uint8)
    [level] = _scan(network, [image], 1.0, flip=False)
    patch = np.full((PATCH + STRIDE, PATCH + STRIDE, 3), 127, np.uint8)
    patch[PATCH // 2, PATCH // 2] = image
    with torch.inference_mode():
        _, code = network.deepmask(torch.from_numpy(patch).permute(2, 0, 1)[None] / 255)
        expected = torch.sigmoid(network.deepmask.scores(code))[0].numpy()
    np.testing.assert_allclose(level.scores, expected, rtol=1e-4)


@pytest.mark.parametrize("scale", [0.25, 0.5, 1.0, 1.4])
def test_a_mask_lands_where_its_window_is(scale):
    """A disc in the middle of a window is a disc around the window's centre on the photograph."""
    yy, xx = np.mgrid[:WINDOW, :WINDOW] + 0.5
    radius = 40
    logits = (radius - np.hypot(yy - WINDOW / 2, xx - WINDOW / 2)).astype(np.float32)[None]
    logits = torch.from_numpy(logits)
    grid = np.array([[4, 6]])
    height, width = 300, 400
    [rle] = _place(logits, grid, (scale, scale), (height, width), 0.0)
    yy, xx = np.mgrid[:height, :width] + 0.5
    expected = np.hypot(yy - 4 * STRIDE / scale, xx - 6 * STRIDE / scale) <= radius / scale
    found = masks.decode([rle], height, width)[0]
    assert expected.any()
    assert (found & expected).sum() / (found | expected).sum() > 0.97


@pytest.mark.parametrize("scale", [(0.25, 0.26), (0.5, 0.5), (1.0, 1.0), (1.41, 1.4)])
@pytest.mark.parametrize("pixels", [2**26, 2 * 90 * 130])
def test_a_gpu_resizes_masks_as_pillow_does(scale, pixels, monkeypatch):
    """Windows in the middle, at the border and beyond the corner; in one batch and in several."""
    monkeypatch.setattr(inference, "_PIXELS_PER_BATCH", pixels)
    torch.manual_seed(0)
    coarse = torch.randn(5, 1, 12, 12)
    logits = torch.nn.functional.interpolate(coarse, (WINDOW, WINDOW), mode="bicubic")[:, 0]
    grid = np.array([[2, 3], [0, 0], [0, 4], [5, 1], [3, 6]])
    expected, found = (
        masks.decode(place(logits, grid, scale, (90, 130), 0.1), 90, 130)
        for place in (_place, _place_on_gpu)
    )
    assert expected.any((1, 2)).all()
    assert (found != expected).mean() < 1e-4  # pixels next to the threshold


def test_images_together_have_the_proposals_of_each(network, image):
    images = [image, image.transpose(1, 0, 2).copy(), image[::-1].copy()]
    together = propose_all(network, images, PYRAMID, 20)
    for found, of_image in zip(together, images, strict=True):
        alone = propose_windows(network, of_image, PYRAMID, 20)
        np.testing.assert_allclose(found.score, alone.score, rtol=1e-4)
        assert np.diag(masks.iou(found.masks, alone.masks)).min() > 0.99


def test_spans_lie_in_window_and_photograph():
    for grid in range(8):
        for scale in (0.177, 0.5, 1.0, 1.414):
            first, last, start, end = _span(grid, scale, int(7 * STRIDE / scale))
            assert 0 <= first < last <= int(7 * STRIDE / scale)
            assert 0 <= start < end <= WINDOW
            np.testing.assert_allclose(end - start, (last - first) * scale)


def test_scales_are_half_octaves():
    published = PyramidParameters.parse(
        {**PYRAMID_VALUES, "min_scale": -2.5, "max_scale": 0.5}, "sharpmask"
    )
    np.testing.assert_allclose(published.scales(), 2.0 ** np.arange(-2.5, 0.51, 0.5))


def test_same_bytes_whatever_the_workers(network, image, tmp_path, monkeypatch):
    monkeypatch.setenv("WISE_DEVICE", "cpu")
    weights = tmp_path / "weights.safetensors"
    write_weights(weights, network, DESCRIPTION)
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(np.roll(image, number * 20, axis=1)).save(paths[-1])
    count = PARAMETERS.max_proposals
    by_sharpmask = SharpMaskProposer(weights, PARAMETERS.sharpmask, count)
    for proposer in (by_sharpmask, Grouper(PARAMETERS.grouping, count)):
        one, two = (list(ordered_map(proposer, paths, workers)) for workers in (1, 2))
        for a, b in zip(one, two, strict=True):
            assert a.masks == b.masks
            assert a.score.tobytes() == b.score.tobytes()
        assert one[0].masks != one[1].masks
    parameters = PARAMETERS.model_copy(update={"source": str(weights)})
    assert supervision(parameters) == "3 instance masks on 2 images of a test"


def test_suppression_keeps_the_best_of_what_is_alike(network, image):
    every = propose_windows(network, image, PYRAMID, 40)
    some = propose_windows(network, image, PYRAMID.model_copy(update={"nms_threshold": 0.5}), 40)
    assert 0 < len(some.masks) < len(every.masks)
    similarity = masks.iou(some.masks, some.masks)
    assert np.triu(similarity, 1).max() <= 0.5
    kept = [every.masks.index(mask) for mask in some.masks]
    assert kept == sorted(kept)
    assert kept[0] == 0
    for left_out in set(range(len(every.masks))) - set(kept):
        better = [every.masks[k] for k in kept if k < left_out]
        assert masks.iou([every.masks[left_out]], better).max() > 0.5


def test_what_is_suppressed_makes_room_for_others(network, image):
    suppressing = PYRAMID.model_copy(update={"nms_threshold": 0.8})
    every = propose_windows(network, image, PYRAMID, 10_000)
    kept = masks.nms(every.masks, 0.8)
    assert 8 <= len(kept) < len(every.masks)
    count = len(kept) - 1
    assert kept[count - 1] >= count  # not among the best `count` windows
    some = propose_windows(network, image, suppressing, count)
    assert some.masks == [every.masks[k] for k in kept[:count]]
    np.testing.assert_array_equal(some.score, every.score[kept[:count]])


def test_mirror_images_have_mirrored_proposals(network, image):
    """At scales at which the mirrored grid of windows is the grid of the mirror image."""
    changes = {"octave_step": 1.0, "min_scale": -1.0, "max_scale": 0.0, "flip": True}
    parameters = PYRAMID.model_copy(update=changes)
    image = np.pad(image[:, :96], ((0, 6), (0, 0), (0, 0)))
    once, mirrored = (
        propose_windows(network, np.ascontiguousarray(pixels), parameters, 10)
        for pixels in (image, image[:, ::-1])
    )
    np.testing.assert_allclose(once.score, mirrored.score, atol=1e-6)
    back = masks.encode(masks.decode(mirrored.masks, 96, 96)[:, :, ::-1])
    assert np.diag(masks.iou(once.masks, back)).min() > 0.99


def test_missing_weights_are_named(tmp_path):
    absent = PARAMETERS.model_copy(update={"source": str(tmp_path / "weights.safetensors")})
    with pytest.raises(InputError, match="has not run"):
        supervision(absent)


@pytest.mark.parametrize(("key", "value"), [("count", 0), ("method", "mcg"), ("source", "")])
def test_impossible_values_are_refused(key, value):
    with pytest.raises(InputError, match=f"proposals.{key}"):
        ProposalsParameters.parse({**VALUES, key: value}, "proposals")


@pytest.mark.parametrize(
    ("block", "key", "value"),
    [
        ("sharpmask", "mask_threshold", 1.0),
        ("sharpmask", "octave_step", 0.0),
        ("sharpmask", "nms", 0.0),
        ("grouping", "color_spaces", ["cmyk"]),
        ("grouping", "color_spaces", []),
        ("grouping", "scales", [-1.0]),
        ("grouping", "joined", 0),
    ],
)
def test_impossible_values_of_a_method_are_refused(block, key, value):
    with pytest.raises(InputError, match=rf"proposals\.{block}\.{key}"):
        ProposalsParameters.parse({**VALUES, block: {**VALUES[block], key: value}}, "proposals")


def test_a_pyramid_the_wrong_way_round_is_refused():
    with pytest.raises(InputError, match="min_scale is above max_scale"):
        PyramidParameters.parse({**PYRAMID_VALUES, "min_scale": 1.0}, "sharpmask")


@pytest.mark.parametrize(
    ("method", "source", "said"),
    [
        ("sharpmask", "masks", r"needs \.safetensors, not masks"),
        ("import", "sharp.safetensors", r"a folder with train\.json and val\.json"),
    ],
)
def test_a_source_of_another_method_is_refused(method, source, said):
    values = {**VALUES, "method": method, "source": source}
    with pytest.raises(InputError, match=said):
        ProposalsParameters.parse(values, "proposals")


def test_supervision_is_stated_for_import_alone():
    imported = {**VALUES, "method": "import", "source": "masks"}
    with pytest.raises(InputError, match="say in words"):
        ProposalsParameters.parse(imported, "proposals")
    stated = ProposalsParameters.parse({**imported, "supervision": "SA-1B"}, "proposals")
    assert supervision(stated) == "SA-1B"
    with pytest.raises(InputError, match="supervision must be empty"):
        ProposalsParameters.parse({**VALUES, "supervision": "nothing"}, "proposals")
    grouping = {**VALUES, "method": "grouping"}
    assert "no masks" in supervision(ProposalsParameters.parse(grouping, "proposals"))
