import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pipeline.artifacts.weights import write_weights
from pipeline.common import masks
from pipeline.common.errors import InputError
from pipeline.proposals.sharpmask.network import SharpMask, SharpMaskDescription
from pipeline.proposals.sharpmask.parameters import SharpMaskParameters
from pipeline.proposals.sharpmask.source import SourceImage, SourceObject
from pipeline.proposals.sharpmask.training import (
    deepmask_loss,
    sharpening_loss,
    sharpmask_trainings,
)
from pipeline.proposals.sharpmask.windows import (
    PatchSamples,
    Window,
    background_window,
    crop,
    is_background,
    object_window,
)
from pipeline.training.batches import EpochSample

SCHEDULE = {
    "epochs": 1,
    "batch_size": 4,
    "optimizer": "adamw",
    "learning_rate": 0.01,
    "backbone_lr_factor": 0.1,
    "weight_decay": 0.0,
}
VALUES = {
    "path": "a-source",
    "min_object_size": 16.0,
    "backbone": "tf_efficientnet_lite0",
    "weights": "none",
    "start": "none",
    "feature_channels": 8,
    "code_channels": 8,
    "score_channels": 8,
    "lateral_channels": 4,
    "refinement_channels": 8,
    "dropout": 0.5,
    "mask_loss_weight": 3.0,
    "shift_jitter": 16.0,
    "scale_jitter": 0.25,
    "aspect_jitter": 0.0,
    "copy_paste": 0.0,
    "negative_distance": 32.0,
    "negative_octaves": 1.0,
    "min_scale": -2.5,
    "max_scale": 0.5,
    "color_jitter": 0.2,
    "samples_per_epoch": 8,
    "deepmask": SCHEDULE,
    "sharpening": SCHEDULE,
    "seed": 3,
}
PARAMETERS = SharpMaskParameters.parse(VALUES, "sharpmask")


def changed(**values) -> SharpMaskParameters:
    return SharpMaskParameters.parse({**VALUES, **values}, "sharpmask")


def thing(left: int, top: int, width: int, height: int, category: int = 1) -> SourceObject:
    mask = np.zeros((1, 240, 320), bool)
    mask[0, top : top + height, left : left + width] = True
    return SourceObject(category, masks.encode(mask)[0]["counts"], (left, top, width, height))


@pytest.fixture
def image(tmp_path) -> SourceImage:
    """A red object on blue, a small one, and a crowd."""
    pixels = np.zeros((240, 320, 3), np.uint8)
    pixels[..., 2] = 200
    pixels[80:120, 60:140] = (200, 0, 0)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    objects = (thing(60, 80, 80, 40), thing(200, 40, 10, 15, category=2))
    return SourceImage(path, 240, 320, objects, ((240.0, 160.0, 60.0, 60.0),))


def test_an_objects_window_is_within_the_jitter(image):
    rng = np.random.default_rng(0)
    windows = [object_window(image.objects[0], rng, PARAMETERS) for _ in range(300)]
    octaves = np.array([np.log2(window.scale / (92 / 80)) for window in windows])
    assert np.abs(octaves).max() <= 0.25
    assert octaves.min() < -0.2 < 0.2 < octaves.max()
    off = np.array([((w.y - 100) * w.scale, (w.x - 100) * w.scale) for w in windows])
    assert np.abs(off).max() <= 16
    assert np.all(off.min(axis=0) < -14)
    assert np.all(off.max(axis=0) > 14)


def test_windows_are_stretched_within_the_limit(image):
    rng = np.random.default_rng(0)
    windows = [object_window(image.objects[0], rng, changed(aspect_jitter=0.5)) for _ in range(300)]
    stretch = np.array([window.stretch for window in windows])
    assert stretch.min() < -0.45 < 0.45 < stretch.max()
    assert np.abs(stretch).max() <= 0.5


def test_background_keeps_its_distance(image):
    rng = np.random.default_rng(0)
    for _ in range(300):
        _, window = background_window([image], rng, PARAMETERS)
        assert 2**-2.5 <= window.scale <= 2**0.5
        for x, y, width, height in (o.box for o in image.objects):
            dy, dx = window.y - y - height / 2, window.x - x - width / 2
            far = (dy * window.scale) ** 2 + (dx * window.scale) ** 2 >= 32**2
            other = not 0.5 < window.scale * max(width, height) / 92 < 2
            assert far or other
        from_crowd = max(240 - window.x, window.x - 300, 160 - window.y, window.y - 220)
        assert from_crowd * window.scale >= 32


@pytest.mark.parametrize(
    ("window", "background"),
    [
        (Window(100, 100, 1.15), False),
        (Window(100, 100 + 26, 1.15), False),  # 30 patch pixels off
        (Window(100, 100 + 30, 1.15), True),  # 34
        (Window(100, 100, 1.15 * 0.52), False),
        (Window(100, 100, 1.15 * 0.48), True),
        (Window(190, 270, 1.0), False),  # in the crowd
        (Window(190, 270, 0.2), False),  # at any scale
    ],
)
def test_what_background_is(image, window, background):
    assert is_background(window, image, PARAMETERS) is background


def test_no_background_is_said(image):
    everywhere = SourceImage(image.path, 240, 320, (), ((0.0, 0.0, 320.0, 240.0),))
    with pytest.raises(InputError, match="leave no background"):
        background_window([everywhere], np.random.default_rng(0), PARAMETERS)


def test_a_cut_at_scale_one_is_a_slice():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    found = np.asarray(crop(Image.fromarray(pixels), Window(30, 40, 1.0), 20, 20, (9, 9, 9)))
    np.testing.assert_array_equal(found, pixels[20:40, 30:50])


def test_a_cut_beyond_the_image_is_filled():
    pixels = np.full((60, 80), 200, np.uint8)
    found = np.asarray(crop(Image.fromarray(pixels), Window(0, 80, 1.0), 40, 40, 7))
    assert np.all(found[20:, :20] == 200)
    assert np.all(found[:20] == 7)
    assert np.all(found[:, 20:] == 7)


def test_a_cut_at_half_scale_averages():
    ramp = np.tile(np.arange(80, dtype=np.uint8), (60, 1))
    found = np.asarray(crop(Image.fromarray(ramp), Window(30, 40, 0.5), 20, 20, 0))
    # Pixel k of the cut covers columns 20 + 2k and 21 + 2k.
    np.testing.assert_allclose(found[10, 2:-2], 20.5 + 2 * np.arange(20)[2:-2], atol=0.51)


def test_a_stretched_cut_is_wider_than_high():
    ramp = np.tile(np.arange(80, dtype=np.uint8), (60, 1))
    found = np.asarray(crop(Image.fromarray(ramp), Window(30, 40, 1.0, 2.0), 20, 20, 0))
    # 40 columns from 20 on, two a pixel, of 10 rows.
    np.testing.assert_allclose(found[10, 2:-2], 20.5 + 2 * np.arange(20)[2:-2], atol=0.51)
    rows = np.asarray(crop(Image.fromarray(ramp.T), Window(40, 30, 1.0, 2.0), 20, 20, 0))
    np.testing.assert_allclose(rows[2:-2, 10], 35 + 0.5 * np.arange(20)[2:-2], atol=0.76)


def test_an_object_is_shown_on_another_images_background(image, tmp_path):
    Image.new("RGB", (320, 240), (0, 200, 0)).save(tmp_path / "green.png")
    green = SourceImage(tmp_path / "green.png", 240, 320, (), ())
    parameters = changed(color_jitter=0.0, copy_paste=1.0)
    samples = PatchSamples([image, green], parameters, 160, background=False)
    grounds = set()
    for item in range(12):
        patch = samples[EpochSample(0, item)]
        pixels, on_object = patch["image"][:, 16:-16, 16:-16], patch["mask"][0] > 0
        assert (pixels[0] > 100)[on_object].float().mean() > 0.95
        ground = pixels[:, ~on_object].float().mean(1)
        grounds.add(int(ground.argmax()))
    assert 1 in grounds  # green, where the object never was


@pytest.mark.parametrize("stretch", [0.0, 0.5])
def test_mask_and_picture_agree(image, stretch):
    samples = PatchSamples(
        [image], changed(color_jitter=0.0, aspect_jitter=stretch), 160, background=False
    )
    for item in range(6):
        patch = samples[EpochSample(0, item)]
        red = patch["image"][0, 16:-16, 16:-16] > 100
        on_object = patch["mask"][0] > 0
        assert on_object.any()
        assert (red != on_object).float().mean() < 0.02
        assert set(patch["mask"].unique().tolist()) == {-1.0, 1.0}


def test_small_objects_are_not_drawn_and_none_at_all_is_refused(image):
    assert PatchSamples([image], PARAMETERS, 112, background=True).objects == 1
    assert PatchSamples([image], changed(min_object_size=15.0), 112, background=True).objects == 2
    with pytest.raises(InputError, match="a-source: no object with a mask"):
        PatchSamples([image], changed(min_object_size=90.0), 112, background=True)


def test_categories_are_drawn_evenly(tmp_path):
    Image.new("RGB", (320, 240)).save(tmp_path / "a.png")
    many = tuple(thing(0, 0, 64, 20) for _ in range(19))
    one = thing(0, 100, 16, 64, category=2)
    image = SourceImage(tmp_path / "a.png", 240, 320, (*many, one), ())
    samples = PatchSamples([image], changed(shift_jitter=0.0), 16, background=False)
    upright = 0
    for item in range(100):
        mask = samples[EpochSample(0, item)]["mask"][0] > 0
        upright += bool(mask.any(dim=1).sum() > mask.any(dim=0).sum())
    assert 30 <= upright <= 70


def test_half_the_patches_are_background_and_visits_repeat(image):
    samples = PatchSamples([image], PARAMETERS, 112, background=True)
    batch = samples.collate([samples[EpochSample(0, item)] for item in range(8)])
    assert batch["label"].tolist() == [1.0, -1.0] * 4
    assert batch["image"].shape == (8, 3, 192, 192)
    assert batch["mask"].shape == (8, 1, 112, 112)
    assert not batch["mask"][1::2].any()
    again = samples[EpochSample(0, 5)]
    torch.testing.assert_close(again["image"], batch["image"][5])
    assert not torch.equal(samples[EpochSample(1, 5)]["image"], batch["image"][5])


@pytest.fixture
def network() -> SharpMask:
    from pipeline.proposals.sharpmask.network import SharpMaskDescription

    torch.manual_seed(0)
    widths = {name: VALUES[name] for name in SharpMaskDescription.model_fields if name in VALUES}
    return SharpMask(SharpMaskDescription(**widths, trained_on=""), "none", dropout=0.0)


def mean(term):
    return (term.total / term.count).item()


def test_deepmask_loss_against_numpy(image, network):
    samples = PatchSamples([image], PARAMETERS, 56, background=True)
    batch = samples.collate([samples[EpochSample(0, item)] for item in range(4)])
    terms = deepmask_loss(network.deepmask, 3.0, batch)
    with torch.no_grad():
        _, code = network.deepmask(batch["image"] / 255)
        logits = network.deepmask.masks(code.flatten(1)).numpy().astype(float)
        scores = network.deepmask.scores(code).numpy().astype(float)[:, 0, 0]
    score = np.mean(np.log(1 + np.exp(-batch["label"].numpy() * scores)))
    signs = batch["mask"].numpy()
    mask = np.mean([np.log(1 + np.exp(-signs[i] * logits[i])).mean() for i in (0, 2)])
    np.testing.assert_allclose(mean(terms["score"]), score, rtol=1e-5)
    np.testing.assert_allclose(mean(terms["mask"]), 3 * mask, rtol=1e-5)


def test_sharpening_teaches_the_refinement_alone(image, network):
    samples = PatchSamples([image], PARAMETERS, 160, background=False)
    batch = samples.collate([samples[EpochSample(0, item)] for item in range(2)])
    terms = sharpening_loss(network.refinement, network.deepmask, batch)
    with torch.no_grad():
        logits = network(batch["image"] / 255)[0].numpy().astype(float)
    expected = np.log(1 + np.exp(-batch["mask"].numpy() * logits)).mean()
    np.testing.assert_allclose(mean(terms["mask"]), expected, rtol=1e-5)
    terms["mask"].total.backward()
    assert all(p.grad is None for p in network.deepmask.parameters())
    assert all(p.grad is not None for p in network.refinement.parameters())


def test_each_phase_changes_its_own_part(image, tmp_path, monkeypatch):
    monkeypatch.setenv("WISE_WORKERS", "1")
    states = {}

    def step(training):
        """One step of plain gradient descent, on everything that has a gradient."""
        network, samples = training.network, training.samples
        network.train()
        batch = samples.collate([samples[EpochSample(0, item)] for item in range(2)])
        sum(term.total / term.count for term in training.loss(batch).values()).backward()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= 0.1 * parameter.grad if parameter.grad is not None else 0.0
        after = network.state_dict()
        states[training.name] = {
            name for name in before if not torch.equal(before[name], after[name])
        }

    network, phases = sharpmask_trainings([image], PARAMETERS)
    for phase in phases:
        step(phase)
    assert any(name.startswith("backbone.body.conv_stem") for name in states["DeepMask"])
    assert {name.split(".")[0] for name in states["DeepMask"]} == {
        "backbone",
        "encoder",
        "mask_head",
        "score_head",
    }
    assert not any(".bn" in name for name in states["DeepMask"])
    assert {name.split(".")[0] for name in states["SharpMask"]} == {
        "start",
        "laterals",
        "halvings",
        "last",
    }
    assert network.description.trained_on == "1 instance masks on 1 images of a-source"


@pytest.fixture
def trained(image, tmp_path):
    torch.manual_seed(5)
    description = SharpMaskDescription(
        **{**PARAMETERS.model_dump(), "trained_on": "9 masks of elsewhere"}
    )
    path = tmp_path / "weights.safetensors"
    write_weights(path, SharpMask(description, "none"), description)
    return path


def test_training_starts_from_a_trained_network(image, trained):
    network, _ = sharpmask_trainings([image], changed(start=str(trained)))
    before = load_file(trained)
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert network.description.trained_on == (
        "9 masks of elsewhere; then 1 instance masks on 1 images of a-source"
    )


@pytest.mark.parametrize(
    ("start", "message"),
    [("weights.safetensors", "weights of another network"), ("absent", "absent: missing")],
)
def test_a_network_to_start_from_that_will_not_do(image, trained, start, message):
    with pytest.raises(InputError, match=message):
        sharpmask_trainings([image], changed(start=str(trained.with_name(start)), code_channels=9))


@pytest.mark.parametrize(
    ("key", "value"),
    [("refinement", 12), ("dropout", 1.0), ("path", ""), ("smallest_object", 0.0), ("seed", -1)],
)
def test_impossible_values_are_refused(key, value):
    with pytest.raises(InputError, match=f"sharpmask.{key}"):
        changed(**{key: value})
