"""Training of community learning (Kim et al., WACV 2021, section 3.3)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor
from torchvision.ops import box_iou

from pipeline.artifacts.split import Split
from pipeline.backbones.resizing import fit_size, to_size
from pipeline.common import runtime
from pipeline.common.errors import InputError
from pipeline.common.parameters import Parameters
from pipeline.community.mask_generation import above, mask_generation_loss, weighted_gap
from pipeline.community.network import (
    Community,
    CommunityArchitecture,
    CommunityDescription,
    Regions,
)
from pipeline.community.oicr import (
    PseudoLabels,
    image_loss,
    pseudo_labels,
    refinement_loss,
    wsddn_scores,
)
from pipeline.community.regions import DIVISOR, BoxSource, scaled
from pipeline.community.regression import regression_loss
from pipeline.community.segmentation import segmentation_loss, segmentation_target
from pipeline.training.batches import EpochSample
from pipeline.training.fit import Loss, Mean, Training
from pipeline.training.schedule import Schedule

POSITIVE_FRACTION = 0.5  # of the regions that train the masks


class CommunityParameters(Parameters):
    """Settings of the stage `community`: how the network is built and trained."""

    enabled: bool = Field(description="whether to train it")
    architecture: CommunityArchitecture
    weights: str = Field(description="weights of the backbone: package, hub, none, or a file")
    min_sizes: tuple[PositiveInt, ...] = Field(
        min_length=1,
        description="shorter side of a resized image, in pixels, drawn anew in each epoch "
        "(480, 576, 688, 864, 1000)",
    )
    max_size: int = Field(
        ge=DIVISOR, description="maximum longer side of a resized image, in pixels (2000)"
    )
    hflip_prob: float = Field(ge=0, le=1, description="probability of a horizontal flip")
    max_regions: int = Field(
        ge=2, description="regions per image, the proposals of highest objectness; bounds memory"
    )
    mask_regions: PositiveInt = Field(
        description="regions per image that train activation maps and segmentation, a random "
        "sample, up to half of it foreground (all)"
    )
    foreground_iou: float = Field(
        gt=0, le=1, description="regions of at least this IoU with a seed get its class"
    )
    ignored_iou: float = Field(
        ge=0,
        lt=1,
        description="regions of a lower IoU with every seed do not train the refinement "
        "classifiers (OICR: 0, PCL: 0.1)",
    )
    regression_iou: float = Field(
        ge=0, lt=1, description="regions of a higher IoU with a seed train the box regressor"
    )
    schedule: Schedule
    seed: NonNegativeInt = Field(description="seed of new layers, order, sizes, flips and samples")


class TaggedRegions:
    """Photographs with their tags and the boxes of their regions.

    Photographs without a region are not trained on.

    Raises
    ------
    InputError
        If no photograph has a tag.
    """

    def __init__(self, split: Split, boxes: BoxSource, parameters: CommunityParameters) -> None:
        if not any(photograph.tags for photograph in split.photographs):
            raise InputError("no photograph has a tag: there is nothing to learn")
        self._split, self._boxes, self._parameters = split, boxes, parameters
        self._photographs = [image for image in split.photographs if image.id in boxes]

    def __len__(self) -> int:
        return len(self._photographs)

    def __getitem__(self, sample: EpochSample) -> dict[str, Any]:
        """Return one image.

        Returns
        -------
        `image`, uint8 (3, h, w); `boxes`, float32 (r, 4), x1 y1 x2 y2 in its pixels; `tags`,
        bool (C,); `seed` of the sampled regions.
        """
        photograph, parameters = self._photographs[sample.item], self._parameters
        rng = sample.generator(parameters.seed)
        min_size = parameters.min_sizes[rng.integers(len(parameters.min_sizes))]
        size = fit_size(photograph.height, photograph.width, min_size, parameters.max_size, DIVISOR)
        image = to_size(self._split.image(photograph), size)
        boxes = self._boxes.boxes(photograph.id)[: parameters.max_regions]
        boxes = scaled(boxes, (photograph.height, photograph.width), size)
        if rng.random() < parameters.hflip_prob:
            image = image.flip(2)
            boxes[:, [0, 2]] = size[1] - boxes[:, [2, 0]]
        tags = torch.zeros(len(self._split.classes), dtype=torch.bool)
        tags[self._split.labels(photograph)] = True
        return {"image": image, "boxes": boxes, "tags": tags, "seed": int(rng.integers(2**63))}

    def collate(self, samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Keep the images apart: each is a bag of regions of its own size."""
        return list(samples)


def community_training(
    split: Split, boxes: BoxSource, parameters: CommunityParameters
) -> Training[Community]:
    """Build the training on the tags of a split and the boxes of its regions."""
    samples = TaggedRegions(split, boxes, parameters)
    runtime.seed_everything(parameters.seed)
    description = CommunityDescription(classes=split.classes, architecture=parameters.architecture)
    network = Community(description, parameters.weights)
    runtime.channels_last(network, runtime.device())
    loss = community_loss(network, parameters)
    return Training("community", network, loss, samples, parameters.schedule, parameters.seed)


def community_loss(network: Community, parameters: CommunityParameters) -> Loss:
    """Return the loss function (Eqs. 2 and 6): each term is a mean over images."""

    def loss(batch: Sequence[dict[str, Any]]) -> dict[str, Mean]:
        of_images = [image_losses(network, parameters, **sample) for sample in batch]
        return {
            name: Mean(torch.stack([terms[name] for terms in of_images]).sum(), len(batch))
            for name in of_images[0]
        }

    return loss


def image_losses(
    network: Community,
    parameters: CommunityParameters,
    image: Tensor,
    boxes: Tensor,
    tags: Tensor,
    seed: int,
) -> dict[str, Tensor]:
    """Compute the terms of the loss of one image, for all parts that the network has.

    Parameters
    ----------
    image, boxes, tags, seed : as of `TaggedRegions`.
    """
    architecture = network.description.architecture
    levels = network.backbone(runtime.channels_last(image[None], image.device) / 255)
    regions = network.detect(levels, boxes)
    terms, pseudo = _detector_losses(regions, boxes, tags, parameters)
    if architecture.regression:
        terms["regression"] = regression_loss(
            regions.offsets, boxes, pseudo, parameters.regression_iou
        )
    if not architecture.mask_generation:
        return terms
    some = sampled_regions(pseudo.label, parameters.mask_regions, seed)
    label, features = pseudo.label[some], regions.features[some]
    maps = network.activation_maps(levels, boxes[some], features)
    terms["mask_generation"] = mask_generation_loss(
        [weighted_gap(level, network.gap_weights) for level in maps],
        label,
        background=architecture.background_class,
    )
    if architecture.segmentation:
        generated = network.maps_of_labels([level.detach() for level in maps], label)
        target = segmentation_target(
            above(generated, architecture.mask_threshold), label, len(tags)
        )
        terms["segmentation"] = segmentation_loss(
            network.segment(levels, boxes[some], features), target
        )
    return terms


def _detector_losses(
    regions: Regions, boxes: Tensor, tags: Tensor, parameters: CommunityParameters
) -> tuple[dict[str, Tensor], PseudoLabels]:
    """Compute the terms of Eqs. 3 and 4, and the pseudo labels that train all other parts.

    The pseudo labels of a refinement classifier are of the scores before it: of WSDDN for the
    first one. Those of the other parts are of the mean of all refinement classifiers.
    """
    iou = box_iou(boxes, boxes)

    def labels(scores: Tensor) -> PseudoLabels:
        return pseudo_labels(scores, iou, tags, parameters.foreground_iou, parameters.ignored_iou)

    scores = wsddn_scores(regions.of_classes, regions.of_regions)
    terms, refinement = {"image": image_loss(scores, tags)}, []
    for logits in regions.refined:
        refinement.append(refinement_loss(logits, labels(scores)))
        scores = logits.softmax(1)[:, 1:]
    terms["refinement"] = torch.stack(refinement).sum()
    return terms, labels(regions.scores()[:, 1:])


def sampled_regions(label: Tensor, count: int, seed: int) -> Tensor:
    """Sample regions that train the masks, at most `POSITIVE_FRACTION` of them foreground.

    Parameters
    ----------
    label : pseudo labels, int64 (r,).
    count : number of regions; if there are not more, all are taken.

    Returns
    -------
    Indices, int64.
    """
    if len(label) <= count:
        return torch.arange(len(label), device=label.device)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(label)))
    order = order.to(label.device)
    foreground, background = order[label[order] > 0], order[label[order] == 0]
    positive = foreground[: max(round(POSITIVE_FRACTION * count), count - len(background))]
    return torch.cat([positive, background[: count - len(positive)]])
