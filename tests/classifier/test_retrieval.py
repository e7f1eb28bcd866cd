import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion, zoom

from pipeline.artifacts.peaks import Peaks, PeakStore, PeakWriter
from pipeline.artifacts.proposals import Proposals, ProposalWriter
from pipeline.artifacts.split import PhotographFile
from pipeline.artifacts.weights import write_weights
from pipeline.classifier.network import Prm, peak_scores
from pipeline.classifier.peaks import PeaksParameters, locate
from pipeline.classifier.retrieval import RetrievalParameters, Retriever, retrieve
from pipeline.common import masks
from pipeline.common.errors import InputError
from tests.support.tiny import CLASSES, PRM

HEIGHT, WIDTH, SIDE, STRIDE = 50, 70, 64, 4
VALUES = {
    "min_peak_height": 0.0,
    "max_candidates": 100,
    "min_area": 0.00002,
    "max_area": 0.85,
    "balance": 0.8,
    "penalty": 0.0002,  # times SIDE squared about what is published for 448 pixels
    "background_threshold": 0.95,
    "nms_threshold": 0.3,
}


def parameters(**changed):
    return RetrievalParameters.parse({**VALUES, **changed}, "retrieval")


def rectangle(top, left, bottom, right):
    shape = np.zeros((HEIGHT, WIDTH), bool)
    shape[top:bottom, left:right] = True
    return shape


def proposals_of(shapes):
    score = np.linspace(0.9, 0.1, len(shapes), dtype=np.float32)
    return Proposals(masks.encode(np.array(shapes)), score)


def peaks_of(label, response, value=1.0):
    """Peaks whose places in the photograph do not matter here."""
    nowhere = np.zeros(len(label), np.int32)
    values = np.full(len(label), value, np.float32)
    return Peaks(np.array(label, np.int16), nowhere, nowhere, values, response)


def random_case(seed):
    """Five peaks of three classes, whose responses are blobs, and thirty rectangles."""
    rng = np.random.default_rng(seed)
    cells = SIDE // STRIDE
    y, x = np.mgrid[:cells, :cells]
    centres = rng.uniform(2, cells - 2, (5, 2, 1, 1))
    response = np.exp(-((y - centres[:, 0]) ** 2 + (x - centres[:, 1]) ** 2) / 6) + rng.random(1)
    response = (response / response.sum((1, 2), keepdims=True)).astype(np.float32)
    corners = rng.integers(0, [HEIGHT - 8, WIDTH - 8], (30, 2))
    ends = corners + rng.integers(4, 40, (30, 2))
    shapes = [rectangle(*start, *end) for start, end in zip(corners, ends, strict=True)]
    maps = torch.from_numpy(rng.normal(0.3, 1, (3, 8, 8)).astype(np.float32))
    return peaks_of(rng.integers(0, 3, 5), response), maps, proposals_of(shapes)


def by_loops(peaks, maps, proposals, settings):
    """PRM 3.3, peak by peak and mask by mask: (label, mask, confidence), by falling confidence."""
    found = []
    shapes = masks.decode(proposals.masks, HEIGHT, WIDTH)[: settings.max_candidates]
    for label, response in zip(peaks.label, peaks.response, strict=True):
        spread = np.kron(response, np.ones((STRIDE, STRIDE))) / STRIDE**2
        magnified = zoom(maps[label].numpy(), SIDE / 8, order=1, mode="nearest", grid_mode=True)
        is_background = magnified < settings.background_threshold * magnified.mean()
        best = (-np.inf, None)
        for shape in shapes:
            if not settings.min_area <= shape.mean() < settings.max_area:
                continue
            warped = np.asarray(Image.fromarray(shape).resize((SIDE, SIDE), Image.NEAREST))
            grown = binary_dilation(warped, np.ones((5, 5)))
            contour = grown & ~binary_erosion(warped, np.ones((5, 5)), border_value=1)
            score = settings.balance * spread[warped].sum() + spread[contour].sum()
            score -= settings.penalty * (is_background & warped).sum()
            if score > best[0]:
                best = (score, shape)
        found.append((*best, int(label)))
    kept = []
    for score, shape, label in sorted(found, key=lambda entry: -entry[0]):
        overlaps = [(shape & other).sum() / (shape | other).sum() for _, other, _ in kept]
        if max(overlaps, default=0) <= settings.nms_threshold:
            kept.append((score, shape, label))
    probability = torch.sigmoid(peak_scores(maps[None], "mean")[0])
    parts = [np.clip(score / (settings.balance + 1), 0, 1) for score, _, _ in kept]
    rows = [
        (label, shape, float(probability[label]) * part)
        for (_, shape, label), part in zip(kept, parts, strict=True)
    ]
    return sorted(rows, key=lambda row: -row[2])


@pytest.mark.parametrize(
    "changed",
    [{}, {"max_candidates": 12, "max_area": 0.2, "min_area": 0.05}, {"background_threshold": 3.0}],
)
def test_like_loops_over_decoded_masks(changed):
    settings = parameters(**changed)
    for seed in range(3):
        case = random_case(seed)
        got = retrieve(*case, SIDE, settings)
        expected = by_loops(*case, settings)
        assert len(expected) > 1
        assert got.label.tolist() == [label for label, _, _ in expected]
        np.testing.assert_array_equal(
            masks.decode(got.masks, HEIGHT, WIDTH), [shape for _, shape, _ in expected]
        )
        np.testing.assert_allclose(got.score, [score for _, _, score in expected], atol=1e-5)
        assert (got.label.dtype, got.score.dtype) == (np.int16, np.float32)


def test_of_two_classes_on_one_mask_the_higher_scored_is_left():
    response = np.zeros((2, 16, 16), np.float32)
    response[0, 4:8, 4:8], response[1, :8, :8] = 1 / 16, 1 / 64
    peaks = peaks_of([0, 1], response)
    proposals = proposals_of([rectangle(12, 17, 25, 35), rectangle(40, 60, 50, 70)])
    found = retrieve(peaks, torch.ones(2, 8, 8), proposals, SIDE, parameters())
    assert found.label.tolist() == [0]
    everything = retrieve(
        peaks, torch.ones(2, 8, 8), proposals, SIDE, parameters(nms_threshold=1.0)
    )
    assert sorted(everything.label.tolist()) == [0, 1]


@pytest.mark.parametrize(
    ("shapes", "changed"),
    [
        ([], {}),
        ([rectangle(0, 0, HEIGHT, WIDTH)], {}),  # larger than allowed
        ([rectangle(0, 0, 20, 20)], {"min_peak_height": 1.5}),
    ],
)
def test_without_candidates_or_high_peaks_there_is_nothing(shapes, changed):
    peaks = peaks_of([0], np.full((1, 16, 16), 1 / 256, np.float32))
    empty = np.zeros((0, HEIGHT, WIDTH), bool)
    proposals = proposals_of(shapes or empty)
    found = retrieve(peaks, torch.ones(2, 8, 8), proposals, SIDE, parameters(**changed))
    assert (len(found.masks), found.label.dtype, found.score.dtype) == (0, np.int16, np.float32)


def test_impossible_areas_are_refused():
    with pytest.raises(InputError, match=r"retrieval.*min_area is not below max_area"):
        parameters(min_area=0.5, max_area=0.5)


FINDING = PeaksParameters(
    min_relative_height=0.0, response="peak", response_stride=4, scales=(), flip=False
)


@pytest.fixture
def world(tmp_path):
    """A photograph, a classifier that sees cats and no dogs, proposals, and peaks of a dog."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    torch.manual_seed(0)
    network = Prm(PRM, "none").eval()
    with torch.no_grad():
        network.head.bias.copy_(torch.tensor([30.0, -30.0]))
    write_weights(tmp_path / "weights.safetensors", network, PRM)
    shapes = [rectangle(*corner, 45, 60) for corner in rng.integers(0, 40, (9, 2))]
    with ProposalWriter(tmp_path / "proposals", "boxes", "nobody's masks", {}) as writer:
        writer.add("one", HEIGHT, WIDTH, proposals_of(shapes))
    with PeakWriter(tmp_path / "peaks", CLASSES, {}) as writer:
        writer.add("one", HEIGHT, WIDTH, locate(network, pixels, [1], FINDING))
    return tmp_path


def retrieved(world, peaks):
    settings = parameters(min_peak_height=-1000.0)
    weights = world / "weights.safetensors"
    retriever = Retriever(weights, world / "proposals", peaks, settings)
    photograph = PhotographFile("one", world / "one.png")
    first, second = retriever([photograph] * 2)
    assert first.masks == second.masks
    return first


def test_peaks_that_are_not_known_are_those_of_the_classes_seen(world):
    assert set(retrieved(world, FINDING).label) == {0}


def test_known_peaks_are_read(world):
    assert len(PeakStore(world / "peaks").points("one").label)
    assert set(retrieved(world, world / "peaks").label) == {1}
