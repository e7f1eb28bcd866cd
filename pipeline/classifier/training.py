"""Training of the PRM classifier from image-level tags (WISE 3.1; PRM 3.1)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeInt
from torch import Tensor, nn

from pipeline.artifacts.split import Split
from pipeline.artifacts.weights import read_description
from pipeline.classifier.features import Features, feature_shape
from pipeline.classifier.network import MAX_SIZE, STRIDE, Prm, PrmDescription, peak_scores
from pipeline.classifier.others import Others, OthersDescription, read_others
from pipeline.common import runtime
from pipeline.common.errors import InputError
from pipeline.common.images import warp
from pipeline.common.parameters import Parameters
from pipeline.training.batches import EpochSample
from pipeline.training.fit import Loss, Mean, Training
from pipeline.training.schedule import Schedule


class PrmParameters(Parameters):
    """Architecture and training of the classifier."""

    renamed: ClassVar[Mapping[str, str]] = {
        "side": "image_size",
    }

    backbone: str = Field(description="a timm model")
    weights: str = Field(description="its ImageNet weights: package, hub, none, or a file")
    image_size: int = Field(
        ge=STRIDE,
        le=MAX_SIZE,
        multiple_of=STRIDE,
        description="height and width in pixels to which images are warped",
    )
    others: str = Field(
        min_length=1,
        description="photographs that show none of the classes: a folder of them, or a file of "
        "their features, which is only used if every training photograph shows every class",
    )
    upsample: int = Field(
        ge=1,
        le=STRIDE,
        description="factor by which class response maps are upsampled to find peaks",
    )
    peak_gradient: Literal["mean", "sum"] = Field(
        description="gradient of the peaks; mean: as in the paper, sum: as in the released code"
    )
    schedule: Schedule
    seed: NonNegativeInt = Field(description="seed of new layers, sample order and flips")


class TaggedImages:
    """Warped, randomly flipped images and their tags as vectors of 0 and 1."""

    def __init__(self, split: Split, image_size: int, seed: int) -> None:
        self._split, self._image_size, self._seed = split, image_size, seed

    def __len__(self) -> int:
        return len(self._split.photographs)

    def __getitem__(self, sample: EpochSample) -> tuple[Tensor, Tensor]:
        """Return the image, uint8 (3, image_size, image_size), and the tags, float32 (C,)."""
        photograph = self._split.photographs[sample.item]
        tags = torch.zeros(len(self._split.classes))
        tags[self._split.labels(photograph)] = 1
        return self._input(sample.item, sample.generator(self._seed).random() < 0.5), tags

    def _input(self, item: int, mirrored: bool) -> Tensor:
        pixels = warp(self._split.image(self._split.photographs[item]), self._image_size)
        if mirrored:
            pixels = pixels[:, ::-1]
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())

    def collate(self, samples: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Stack images and tags."""
        images, tags = zip(*samples, strict=True)
        return torch.stack(images), torch.stack(tags)


class TaggedFeatures(TaggedImages):
    """The same, with the features of an image, float16 (channels, h, w), in place of its pixels."""

    def __init__(self, split: Split, image_size: int, seed: int, features: Features) -> None:
        super().__init__(split, image_size, seed)
        self._features = features

    def _input(self, item: int, mirrored: bool) -> Tensor:
        return torch.from_numpy(self._features(item, mirrored))


class WithOthers:
    """Tagged features, and after them those of photographs that show none of the classes."""

    def __init__(self, tagged: TaggedFeatures, others: Others, network: Prm) -> None:
        self._tagged, self._others = tagged, others
        _, *self._size = feature_shape(network)
        self._no_tags = torch.zeros(len(network.description.classes))
        self.collate = tagged.collate

    def __len__(self) -> int:
        return len(self._tagged) + len(self._others)

    def __getitem__(self, sample: EpochSample) -> tuple[Tensor, Tensor]:
        """Return the features, float16 (channels, h, w), and the tags, float32 (C,)."""
        number = sample.item - len(self._tagged)
        if number < 0:
            return self._tagged[sample]
        return torch.from_numpy(self._others.spread(number, *self._size)), self._no_tags


def is_frozen(parameters: PrmParameters) -> bool:
    """Whether the backbone keeps its weights, so that features need to be computed only once."""
    return parameters.schedule.backbone_lr_factor == 0


def others_for(split: Split, parameters: PrmParameters) -> Others | None:
    """Read the features of other photographs if every photograph of a split shows every class.

    Raises
    ------
    InputError
        If they are needed, and are not of the backbone and the size of the parameters.
    """
    if any(len(photograph.tags) < len(split.classes) for photograph in split.photographs):
        return None
    file = Path(parameters.others)
    try:
        description = read_description(file, OthersDescription)
        for key, value in description.made_with().items():
            if value != getattr(parameters, key):
                raise InputError(f"{file} is for prm.{key} = {value}")
        if not is_frozen(parameters):
            raise InputError(f"{file} is for prm.schedule.backbone_lr_factor = 0")
        return read_others(file, split.classes)
    except InputError as error:
        raise InputError(
            f"every training image shows {', '.join(split.classes)}: set prm.others to a folder of "
            f"photographs without it (wise new --others); not used: {error}"
        ) from None


def fine_tuning(network: Prm, split: Split, parameters: PrmParameters) -> Training[Prm]:
    """Set up the training of a whole classifier on the photographs and tags of a split."""
    samples = TaggedImages(split, parameters.image_size, parameters.seed)
    loss_of_features = prm_loss(network, parameters.peak_gradient)

    def loss(batch: tuple[Tensor, Tensor]) -> Mapping[str, Mean]:
        images, tags = batch
        with _in_float32(images):
            return loss_of_features((network.backbone(images / 255), tags))

    return Training("prm", network, loss, samples, parameters.schedule, parameters.seed)


def head_training(
    network: Prm,
    split: Split,
    parameters: PrmParameters,
    features: Features,
    others: Others | None = None,
) -> Training[Prm]:
    """Set up the training of the heads of a classifier, given the features of a split.

    Parameters
    ----------
    others : of photographs that show none of the classes, if there are not enough in the split.
    """
    tagged = TaggedFeatures(split, parameters.image_size, parameters.seed, features)
    samples = WithOthers(tagged, others, network) if others else tagged
    loss = prm_loss(network, parameters.peak_gradient)
    return Training("prm", network, loss, samples, parameters.schedule, parameters.seed)


def untrained(split: Split, parameters: PrmParameters, others: int = 0) -> Prm:
    """Build the initial classifier, on the device on which it is trained.

    The biases are set so that its predictions are the frequencies of the tags. Otherwise the
    peaks of random maps would predict every class at first, which slows training down.

    Parameters
    ----------
    others : number of photographs without tags that are not in the split.

    Raises
    ------
    InputError
        If no photograph has a tag.
    """
    tagged = Counter(tag for photograph in split.photographs for tag in photograph.tags)
    if not tagged:
        raise InputError("no photograph has a tag: there is nothing to learn")
    runtime.seed_everything(parameters.seed)
    description = PrmDescription(
        backbone=parameters.backbone,
        classes=split.classes,
        image_size=parameters.image_size,
        upsample=parameters.upsample,
    )
    network = Prm(description, parameters.weights)
    count = torch.tensor([tagged[name] for name in split.classes])
    # Laplace smoothing: no frequency is 0 or 1.
    frequency = (count + 1) / (len(split.photographs) + others + 2)
    for head in (network.head, network.presence_head):
        nn.init.normal_(head.weight, std=0.01)
        head.bias = nn.Parameter(torch.logit(frequency))
    return runtime.channels_last(network, runtime.device())


def prm_loss(network: Prm, peak_gradient: Literal["mean", "sum"]) -> Loss:
    """Return the loss of a batch of features and tags.

    It is the sum of two multi-label soft margin losses: of the class scores, which are computed
    from peaks (PRM 3.1), and of the logits of the classes' presence (not published).
    """

    def loss(batch: tuple[Tensor, Tensor]) -> Mapping[str, Mean]:
        features, tags = batch[0].float(), batch[1]
        with _in_float32(features):
            scores = peak_scores(network.class_maps(features), peak_gradient)
            presence = network.presence_logits(features)
        return {"peaks": _soft_margin(scores, tags), "presence": _soft_margin(presence, tags)}

    return loss


def _in_float32(images: Tensor) -> torch.autocast:
    """Disable autocast: rounded to bfloat16, other cells are peaks, and receive the gradient."""
    return torch.autocast(images.device.type, enabled=False)


def _soft_margin(logits: Tensor, tags: Tensor) -> Mean:
    image_losses = F.multilabel_soft_margin_loss(logits, tags, reduction="none")
    return Mean(image_losses.sum(), len(tags))
