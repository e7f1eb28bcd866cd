import numpy as np
import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from pipeline.artifacts.weights import write_weights
from pipeline.backbones.resizing import fit_size, to_size
from pipeline.common import runtime
from pipeline.detectors.mask_rcnn.network import MaskRcnn, SeededSampler, pad
from tests.support.tiny import ARCHITECTURE
from tests.support.tiny import MASK_RCNN as DESCRIPTION


def test_only_the_trunk_is_called_backbone():
    network = MaskRcnn(DESCRIPTION, "none")
    backbone = set(map(id, network.backbone.parameters()))
    for name, parameter in network.named_parameters():
        assert name.startswith("backbone.") == (id(parameter) in backbone)


def test_statistics_of_the_trunk_stay_as_they_are():
    runtime.seed_everything(0)
    network = MaskRcnn(DESCRIPTION, "none").train()
    before = {name: value.clone() for name, value in network.named_buffers()}
    shape = torch.ones(1, 64, 64, dtype=torch.uint8)
    wanted = {
        "boxes": torch.tensor([[0.0, 0, 64, 64]]),
        "labels": torch.tensor([1]),
        "masks": shape,
    }
    losses = network.losses(torch.rand(1, 3, 64, 64), [(64, 64)], [wanted], [0])
    assert sorted(losses) == [
        "loss_box_reg",
        "loss_classifier",
        "loss_mask",
        "loss_objectness",
        "loss_rpn_box_reg",
    ]
    assert before
    for name, value in network.named_buffers():
        assert torch.equal(value, before[name])


def test_a_pyramid_without_its_finest_level():
    runtime.seed_everything(0)
    architecture = ARCHITECTURE.model_copy(update={"finest_stride": 8})
    network = MaskRcnn(DESCRIPTION.model_copy(update={"architecture": architecture}), "none")
    images, sizes = torch.rand(1, 3, 64, 96), [(64, 96)]
    levels = network.features(images)
    assert [tuple(level.shape[2:]) for level in levels.values()] == [
        (8, 12),
        (4, 6),
        (2, 3),
        (1, 2),
    ]
    (anchors,) = network.rpn.anchor_generator(ImageList(images, sizes), list(levels.values()))
    sides = (anchors[:, 2:] - anchors[:, :2]).prod(1).sqrt().round()
    assert sorted(set(sides.tolist())) == [8, 16, 32, 64]
    assert network.heads.box_roi_pool.scales == [1 / 8, 1 / 16, 1 / 32]
    shape = torch.ones(1, 64, 64, dtype=torch.uint8)
    wanted = {"boxes": torch.tensor([[0.0, 0, 64, 64]]), "labels": torch.tensor([1])}
    losses = network.losses(images, sizes, [{**wanted, "masks": shape}], [0])
    assert all(torch.isfinite(mean) for mean, _ in losses.values())


def test_masks_of_twice_the_resolution():
    runtime.seed_everything(0)
    architecture = ARCHITECTURE.model_copy(update={"mask_size": 56})
    description = DESCRIPTION.model_copy(update={"architecture": architecture})
    network = MaskRcnn(description, "none", min_score=0.0, max_detections=3).eval()
    images, sizes = torch.rand(2, 3, 64, 96), [(64, 96)] * 2
    with torch.inference_mode():
        found = network(images, sizes)
        (mirrored,) = network.forward_mirrored(images, sizes[:1])
    assert [len(one["scores"]) for one in (*found, mirrored)] == [3, 3, 3]
    assert all(one["masks"].shape == (3, 1, 56, 56) for one in (*found, mirrored))
    half = torch.zeros(1, 64, 96, dtype=torch.uint8)
    half[:, :32, :64] = 1
    wanted = {"boxes": torch.tensor([[0.0, 0, 64, 32]]), "labels": torch.tensor([1]), "masks": half}
    mean, count = network.train().losses(images[:1], sizes[:1], [wanted], [0])["loss_mask"]
    assert count > 0
    assert 0 < mean < 5


def test_rebuilt_from_its_file(tmp_path):
    runtime.seed_everything(0)
    network = MaskRcnn(DESCRIPTION, "none", min_score=0.0, max_detections=7).eval()
    write_weights(tmp_path / "weights.safetensors", network, DESCRIPTION)
    runtime.seed_everything(1)
    rebuilt = MaskRcnn.load(tmp_path / "weights.safetensors", 0.0, 7)
    images = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        found, again = (net(images, [(64, 96), (60, 80)]) for net in (network, rebuilt))
    assert rebuilt.description == DESCRIPTION
    for one, two in zip(found, again, strict=True):
        assert 0 < len(one["scores"]) <= 7
        assert all(torch.equal(one[name], two[name]) for name in one)
    assert found[1]["boxes"][:, 2].max() <= 80


def test_what_is_found_does_not_depend_on_the_images_before():
    """torchvision's RoIAlign would take its scales from the first image: 33 / 64 of this one."""
    narrow, other = torch.rand(1, 3, 64, 128), torch.rand(1, 3, 64, 96)
    found = []
    for first in (narrow, other):
        runtime.seed_everything(0)
        network = MaskRcnn(DESCRIPTION, "none", min_score=0.0, max_detections=7).eval()
        with torch.inference_mode():
            network(first, [(33, first.shape[3])])
            found += network(other, [(64, 96)])
    after_narrow, after_other = found
    assert len(after_other["scores"]) > 0
    assert all(torch.equal(after_narrow[name], after_other[name]) for name in after_other)


def test_boxes_keep_their_precision_under_autocast():
    runtime.seed_everything(0)
    network = MaskRcnn(DESCRIPTION, "none", min_score=0.0).eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        (found,) = network(torch.rand(1, 3, 64, 96), [(64, 96)])
    boxes = found["boxes"]
    assert boxes.dtype == found["masks"].dtype == torch.float32
    assert not torch.equal(boxes, boxes.bfloat16().float())


@pytest.mark.parametrize(
    ("photograph", "expected"),
    [((375, 500), (64, 85)), ((500, 375), (85, 64)), ((100, 300), (43, 128)), ((1, 500), (1, 128))],
)
def test_size_is_bound_by_the_short_or_the_long_side(photograph, expected):
    assert fit_size(*photograph, ARCHITECTURE.min_size, ARCHITECTURE.max_size) == expected


def test_padding_lies_right_and_below():
    rng = np.random.default_rng(0)
    images = [
        to_size(rng.integers(0, 100, (*size, 3), np.uint8), size) for size in ((33, 20), (10, 50))
    ]
    padded, sizes = pad(images)
    assert padded.shape == (2, 3, 64, 64)
    assert sizes == [(33, 20), (10, 50)]
    for place, image, (height, width) in zip(padded, images, sizes, strict=True):
        assert torch.equal(place[:, :height, :width], image)
        assert (place[:, height:] == 127).all()
        assert (place[:, :, width:] == 127).all()


def test_the_regions_drawn_in_an_image_do_not_depend_on_the_batch():
    labels = [torch.arange(60) % 3, (torch.arange(80) % 4).clamp(max=1)]
    together, alone = SeededSampler(10, 0.5), SeededSampler(10, 0.5)
    together.seeds = 7, 8
    both = together(labels)
    counts = []
    for image in range(2):
        alone.seeds = (7 + image,)
        for of_both, of_one in zip(both, alone(labels[image : image + 1]), strict=True):
            assert torch.equal(of_both[image], of_one[0])
        counts.append((int(alone.drawn), int(alone.drawn_positive)))
    assert counts == [(10, 5)] * 2
    assert (int(together.drawn), int(together.drawn_positive)) == (20, 10)
    together.seeds = 8, 8
    assert not torch.equal(together(labels)[0][0], both[0][0])


def test_a_term_counts_its_regions():
    """Regions of images with and without an object; those with one alone have a mask's loss."""
    runtime.seed_everything(0)
    network = MaskRcnn(DESCRIPTION, "none").train()
    shape = torch.ones(1, 64, 64, dtype=torch.uint8)
    one = {
        "boxes": torch.tensor([[0.0, 0, 64, 64]]),
        "labels": torch.tensor([1]),
        "masks": shape,
    }
    none = {name: value[:0] for name, value in one.items()}
    images, sizes = torch.rand(2, 3, 64, 64), [(64, 64)] * 2
    both = network.losses(images, sizes, [one, none], [3, 4])
    parts = [
        network.losses(images[image : image + 1], sizes[:1], [target], [3 + image])
        for image, target in enumerate([one, none])
    ]
    for name, (mean, count) in both.items():
        assert count == sum(part[name][1] for part in parts)
        total = sum(part[name][0] * part[name][1] for part in parts)
        assert torch.isclose(mean * count, total, rtol=1e-5)
    assert 0 < both["loss_mask"][1] < both["loss_classifier"][1]
    assert parts[1]["loss_mask"][1] == 0
