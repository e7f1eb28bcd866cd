from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.artifacts.draws import Draws, DrawStore, DrawWriter
from pipeline.artifacts.proposals import Proposals, ProposalStore, ProposalWriter
from pipeline.artifacts.split import Photograph, Split
from pipeline.artifacts.weights import write_weights
from pipeline.common import masks, runtime
from pipeline.common.errors import InputError
from pipeline.detectors.mask_rcnn.network import MaskRcnn, MaskRcnnDescription
from pipeline.detectors.mask_rcnn.training import (
    MaskedPhotographs,
    detector_training,
    mask_boxes,
    mask_rcnn_loss,
    target,
)
from pipeline.pseudo_masks.supervision import PseudoMasks
from pipeline.training.batches import EpochSample
from pipeline.training.fit import Training, fit
from stages.common.curves import curves
from tests.support.mask_rcnn import PARAMETERS, parameters

CLASSES = ("cat", "dog")
HEIGHT, WIDTH = 48, 64
# Proposals 0 to 3 of every image: (top, left, bottom, right).
CORNERS = [(0, 0, 20, 30), (10, 30, 40, 60), (4, 4, 44, 60), (20, 8, 21, 50)]


def scheduled(**changes):
    return parameters(schedule={**PARAMETERS["schedule"], **changes})


def shapes():
    drawn = np.zeros((len(CORNERS), HEIGHT, WIDTH), bool)
    for shape, (top, left, bottom, right) in zip(drawn, CORNERS, strict=True):
        shape[top:bottom, left:right] = True
    return drawn


@pytest.fixture
def world(tmp_path):
    """Three photographs of noise; the second has no draw. Drawn: see `draw`."""
    rng = np.random.default_rng(0)
    photographs = []
    draw = np.array([[0, 1], [0, 2], [3, 3]], np.int32)
    proposals = Proposals(masks.encode(shapes()), np.array([0.9, 0.8, 0.7, 0.6], np.float32))
    with (
        ProposalWriter(tmp_path / "proposals", "sharpmask", "masks", {}) as proposed,
        DrawWriter(tmp_path / "draws", CLASSES, {}) as drawn,
    ):
        for name in ("one", "two", "three"):
            pixels = rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
            # What a mirror shows: the left half is brighter.
            pixels[:, : WIDTH // 2] = pixels[:, : WIDTH // 2] // 4 + 191
            Image.fromarray(pixels).save(tmp_path / f"{name}.png")
            photographs.append(
                Photograph(
                    id=name,
                    file=f"{name}.png",
                    height=HEIGHT,
                    width=WIDTH,
                    sha256="",
                    tags=CLASSES,
                )
            )
            proposed.add(name, HEIGHT, WIDTH, proposals)
            peaks = 0 if name == "two" else 3
            labels = np.array([1, 1, 0], np.int16)[:peaks]
            none = [np.empty(0, np.int32)] * peaks
            nothing = [np.empty(0, np.float32)] * peaks
            draws = Draws(labels, none, nothing, draw[:peaks], np.ones(peaks, bool))
            drawn.add(name, HEIGHT, WIDTH, draws)
    split = Split(root=str(tmp_path), classes=CLASSES, photographs=tuple(photographs))
    stores = DrawStore(tmp_path / "draws"), ProposalStore(tmp_path / "proposals")
    return SimpleNamespace(split=split, stores=stores, path=tmp_path)


def samples_of(world, settings):
    pseudo_masks = PseudoMasks(world.split, *world.stores, settings.schedule.epochs)
    return MaskedPhotographs(world.split, pseudo_masks, settings)


def test_an_epoch_has_its_own_draws(world):
    samples = samples_of(world, parameters(hflip_prob=0))
    # EpochSample 0: proposal 0 twice for class 1, once; the one of a single row has no box.
    _, first, *_ = samples[EpochSample(0, 0)]
    assert first["labels"].tolist() == [2]
    assert first["boxes"].tolist() == [[0, 0, 30, 20]]
    _, second, *_ = samples[EpochSample(1, 0)]
    assert second["labels"].tolist() == [2, 2]
    assert second["boxes"].tolist() == [[30, 10, 60, 40], [4, 4, 60, 44]]
    np.testing.assert_array_equal(second["masks"].numpy(), shapes()[[1, 2]])


def test_images_without_draws_are_skipped_and_counted(world):
    samples = samples_of(world, parameters())
    assert len(samples) == 2


def test_too_few_draws(world):
    with pytest.raises(InputError, match=r"2 draws per peak.* schedule.epochs = 3"):
        samples_of(world, scheduled(epochs=3))


def test_the_mirror_turns_image_boxes_and_masks(world):
    image, plain, *_ = samples_of(world, parameters(hflip_prob=0, color_jitter=0))[
        EpochSample(1, 0)
    ]
    mirrored, turned, *_ = samples_of(world, parameters(hflip_prob=1, color_jitter=0))[
        EpochSample(1, 0)
    ]
    assert image[:, :, : WIDTH // 2].float().mean() > image[:, :, WIDTH // 2 :].float().mean()
    torch.testing.assert_close(mirrored.flip(2), image)
    torch.testing.assert_close(turned["masks"].flip(2), plain["masks"])
    expected = [[WIDTH - x2, y1, WIDTH - x1, y2] for x1, y1, x2, y2 in plain["boxes"].tolist()]
    assert turned["boxes"].tolist() == expected
    torch.testing.assert_close(turned["labels"], plain["labels"])


def test_resizing_keeps_image_masks_and_boxes_together(world):
    architecture = {**PARAMETERS["architecture"], "min_size": 96, "max_size": 200}
    samples = samples_of(world, parameters(architecture=architecture, hflip_prob=0))
    image, wanted, *_ = samples[EpochSample(1, 0)]
    assert image.shape == (3, 96, 128)
    # What was too thin for a box is not any more.
    assert wanted["boxes"].tolist() == [[60, 20, 120, 80], [8, 8, 120, 88], [16, 40, 100, 42]]
    doubled = shapes()[1:].repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(wanted["masks"].numpy(), doubled)


def boxes_by_definition(shapes):
    """The smallest and the largest coordinates of each mask's pixels, mask by mask."""
    found = []
    for shape in shapes:
        y, x = torch.where(shape == 1)
        found.append([min(x), min(y), max(x) + 1, max(y) + 1] if len(x) else [0] * 4)
    return torch.tensor(found, dtype=torch.float32).reshape(-1, 4)


@pytest.mark.parametrize("density", [0, 0.002, 0.05, 1])
def test_boxes_of_masks_are_those_of_the_definition(density):
    random = torch.rand(20, 17, 23, generator=torch.Generator().manual_seed(0))
    shapes = (random < density).to(torch.uint8)
    for given in (shapes, shapes.flip(2), shapes[:1], shapes[:0]):
        torch.testing.assert_close(mask_boxes(given), boxes_by_definition(given), rtol=0, atol=0)


def test_possible_objects_are_resized_and_mirrored_with_the_image(world):
    architecture = {**PARAMETERS["architecture"], "min_size": 96, "max_size": 200}
    given = {"architecture": architecture, "max_background_iou": 0.7}

    class Alternatives(PseudoMasks):
        def alternatives(self, image_id):
            return super().instances(image_id, 0)

    for hflip_prob, expected in ((0, [[0, 0, 60, 40]]), (1, [[68, 0, 128, 40]])):
        pseudo_masks = Alternatives(world.split, *world.stores, 2)
        settings = parameters(**given, hflip_prob=hflip_prob)
        samples = MaskedPhotographs(world.split, pseudo_masks, settings)
        _, wanted, *_ = samples[EpochSample(1, 0)]
        first = wanted["alternatives"].tolist()[:1]
        assert first == expected
    _, wanted, *_ = samples_of(world, parameters())[EpochSample(1, 0)]
    assert wanted["alternatives"].shape == (0, 4)


def test_a_batch_is_padded_to_multiples_of_32(world):
    samples = samples_of(world, parameters())
    wide, tall = torch.ones(3, 40, 70, dtype=torch.uint8), torch.ones(3, 60, 30, dtype=torch.uint8)
    nothing = target(torch.zeros(1, 40, 70, dtype=torch.uint8), np.zeros(1, np.int16))
    batch = samples.collate([(wide, nothing, 0, []), (tall, nothing, 1, [])])
    assert batch["images"].shape == (2, 3, 64, 96)
    assert batch["sizes"] == [(40, 70), (60, 30)]
    assert (batch["images"][0, :, :40, :70] == 1).all()
    assert (batch["images"][0, :, 40:] != 1).all()
    of_share = samples.collate([(wide, nothing, 0, [(40, 70), (100, 30)])])
    assert of_share["images"].shape == (1, 3, 128, 96)


@pytest.mark.parametrize("empty", [0, 1])
def test_an_image_with_nothing_left_still_trains(empty):
    runtime.seed_everything(0)
    settings = parameters()
    description = MaskRcnnDescription(classes=CLASSES, architecture=settings.architecture)
    network = MaskRcnn(description, "none").train()
    shape = torch.zeros(1, 64, 64, dtype=torch.uint8)
    shape[0, 10:40, 10:40] = 1
    without = target(shape * 0, np.zeros(1, np.int16))
    assert without["boxes"].shape == (0, 4)
    other = without if empty else target(shape, np.zeros(1, np.int16))
    terms = network.losses(torch.rand(2, 3, 64, 64), [(64, 64)] * 2, [without, other], [0, 1])
    total = sum(mean for mean, _ in terms.values())
    total.backward()
    assert torch.isfinite(total)
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in network.parameters())


def untrained(settings):
    runtime.seed_everything(settings.seed)
    description = MaskRcnnDescription(classes=CLASSES, architecture=settings.architecture)
    return MaskRcnn(description, "none")


def train(world, settings, name, steps):
    """Train in the folder `name`, on with what is there, and stop short before step `steps`."""
    network = untrained(settings)
    loss = mask_rcnn_loss(network)
    left = iter(range(steps))

    def stopping(batch):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return loss(batch)

    samples = samples_of(world, settings)
    training = Training("test", network, stopping, samples, settings.schedule, settings.seed)
    fit(training, world.path / name / "checkpoint.pt", curves(world.path / name / "curves"))
    return network.state_dict()


def test_the_same_seed_gives_the_same_weights_interrupted_or_not(world, monkeypatch):
    monkeypatch.setenv("WISE_WORKERS", "1")
    monkeypatch.setenv("WISE_CHECKPOINT_SECONDS", "0")
    settings = scheduled(batch_size=1)  # two steps an epoch
    whole = train(world, settings, "whole", steps=4)
    with pytest.raises(KeyboardInterrupt):
        train(world, settings, "interrupted", steps=3)
    resumed = train(world, settings, "interrupted", steps=1)
    before = untrained(settings).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not all(torch.equal(whole[name], before[name]) for name in whole)


def test_frozen_layers_keep_their_weights(world, monkeypatch):
    monkeypatch.setenv("WISE_WORKERS", "1")
    settings = parameters(trainable_backbone_layers=3)
    pseudo_masks = PseudoMasks(world.split, *world.stores, settings.schedule.epochs)
    training = detector_training("test", world.split, pseudo_masks, settings)
    before = {name: value.clone() for name, value in training.network.state_dict().items()}
    fit(training, world.path / "checkpoint.pt", curves(world.path / "curves"))
    after = training.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    frozen = ("backbone.body.conv_stem", "backbone.body.blocks.0", "backbone.body.blocks.1")
    assert not any(name.startswith(frozen) for name in changed)
    assert "backbone.body.blocks.2.0.conv_dw.weight" in changed


def test_a_training_goes_on_from_given_weights(world, monkeypatch):
    monkeypatch.setenv("WISE_WORKERS", "1")
    settings = scheduled(learning_rate=1e-9)
    earlier = untrained(settings.model_copy(update={"seed": 99}))
    write_weights(world.path / "earlier.safetensors", earlier, earlier.description)
    pseudo_masks = PseudoMasks(world.split, *world.stores, settings.schedule.epochs)
    start = world.path / "earlier.safetensors"
    training = detector_training("test", world.split, pseudo_masks, settings, start)
    fit(training, world.path / "checkpoint.pt", curves(world.path / "curves"))
    weights = training.network.state_dict()
    for name, tensor in earlier.state_dict().items():
        torch.testing.assert_close(weights[name], tensor, rtol=0, atol=1e-6)
    fresh = untrained(settings).state_dict()
    assert not all(torch.allclose(weights[name], fresh[name], atol=1e-6) for name in fresh)
