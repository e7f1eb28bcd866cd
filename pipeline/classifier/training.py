"""Training the classifier that shows peaks, from tags alone (WISE 3.1; PRM 3.1)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeInt
from torch import Tensor, nn

from pipeline.artifacts.split import Split
from pipeline.classifier.network import STRIDE, Prm, PrmDescription, peak_scores
from pipeline.common import runtime
from pipeline.common.errors import InputError
from pipeline.common.images import warp
from pipeline.common.parameters import Parameters
from pipeline.training.batches import EpochSample
from pipeline.training.fit import Loss, Mean, Training
from pipeline.training.schedule import Schedule


class PrmParameters(Parameters):
    """How the classifier is built and trained."""

    renamed: ClassVar[Mapping[str, str]] = {
        "side": "image_size",
    }

    backbone: str = Field(description="a timm model")
    weights: str = Field(description="its ImageNet weights: package, hub, none, or a file")
    image_size: int = Field(ge=STRIDE, multiple_of=STRIDE, description="pixels; images are warped")
    upsample: int = Field(ge=1, description="magnification of the maps before peaks are sought")
    peak_gradient: Literal["mean", "sum"] = Field(
        description="mean: the paper's; sum: the released code's"
    )
    schedule: Schedule
    seed: NonNegativeInt = Field(description="of new layers, order and flips")


class TaggedImages:
    """Warped, randomly flipped images and their tags as 0/1 vectors."""

    def __init__(self, split: Split, side: int, seed: int) -> None:
        if not any(photograph.tags for photograph in split.photographs):
            raise InputError("no photograph has a tag: there is nothing to learn")
        self._split, self._side, self._seed = split, side, seed

    def __len__(self) -> int:
        return len(self._split.photographs)

    def __getitem__(self, visit: EpochSample) -> tuple[Tensor, Tensor]:
        """Give the image, uint8 (3, side, side), and the tags, float32 (C,)."""
        photograph = self._split.photographs[visit.item]
        pixels = warp(self._split.image(photograph), self._side)
        if visit.generator(self._seed).random() < 0.5:
            pixels = pixels[:, ::-1]
        tags = torch.zeros(len(self._split.classes))
        tags[self._split.labels(photograph)] = 1
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy()), tags

    def collate(self, samples: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Stack images and tags."""
        images, tags = zip(*samples, strict=True)
        return torch.stack(images), torch.stack(tags)


def classifier_training(split: Split, parameters: PrmParameters) -> Training[Prm]:
    """Give the training of a classifier on the photographs and tags of a split."""
    samples = TaggedImages(split, parameters.image_size, parameters.seed)
    runtime.seed_everything(parameters.seed)
    network = untrained(split, parameters)
    loss = prm_loss(network, parameters.peak_gradient)
    return Training("prm", network, loss, samples, parameters.schedule, parameters.seed)


def untrained(split: Split, parameters: PrmParameters) -> Prm:
    """Build the classifier as training begins with it, on the device it is trained on.

    Of every image it says how frequent each tag is among all. Means of the highest values of
    random maps would be high instead, and would have to come down before anything is learnt.
    """
    description = PrmDescription(
        backbone=parameters.backbone,
        classes=split.classes,
        image_size=parameters.image_size,
        upsample=parameters.upsample,
    )
    network = Prm(description, parameters.weights)
    tagged = Counter(tag for photograph in split.photographs for tag in photograph.tags)
    count = torch.tensor([tagged[name] for name in split.classes])
    # One image more with every tag and one without: no share is 0 or 1.
    share = (count + 1) / (len(split.photographs) + 2)
    nn.init.normal_(network.head.weight, std=0.01)
    network.head.bias = nn.Parameter(torch.logit(share))
    return runtime.channels_last(network, runtime.device())


def prm_loss(network: Prm, peak_gradient: Literal["mean", "sum"]) -> Loss:
    """Make the multilabel soft margin loss of the peak scores (PRM 3.1)."""

    def loss(batch: tuple[Tensor, Tensor]) -> Mapping[str, Mean]:
        images, tags = batch
        scores = peak_scores(network(images / 255), peak_gradient)
        of_images = F.multilabel_soft_margin_loss(scores, tags, reduction="none")
        return {"soft_margin": Mean(of_images.sum(), len(tags))}

    return loss
