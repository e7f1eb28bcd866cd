"""Training of SharpMask on class-agnostic masks: the losses and the two phases."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.artifacts.weights import load_weights, read_description
from pipeline.common import runtime
from pipeline.proposals.sharpmask.network import (
    WINDOW,
    DeepMask,
    Refinement,
    SharpMask,
    SharpMaskDescription,
)
from pipeline.proposals.sharpmask.parameters import SharpMaskParameters
from pipeline.proposals.sharpmask.source import SourceImage
from pipeline.proposals.sharpmask.windows import COARSE_TARGET_SIDE, Patch, PatchSamples
from pipeline.training.fit import Mean, Training


def soft_margin(logits: Tensor, signs: Tensor) -> Tensor:
    """Compute log(1 + exp(-sign * logit)), elementwise."""
    return F.softplus(-signs * logits)


def deepmask_loss(network: DeepMask, mask_weight: float, batch: Patch) -> Mapping[str, Mean]:
    """Loss of phase 1: scores of all patches, coarse masks of positive ones (DeepMask, Eq. 1)."""
    _, code = network(batch["image"] / 255)
    score = soft_margin(network.scores(code).flatten(), batch["label"])
    coarse = F.interpolate(
        network.masks(code.flatten(1)), batch["mask"].shape[-2:], mode="bilinear"
    )
    per_patch = soft_margin(coarse, batch["mask"]).mean(dim=(1, 2, 3))
    has_object = (batch["label"] > 0).float()
    return {
        "mask": Mean(mask_weight * (per_patch * has_object).sum(), has_object.sum()),
        "score": Mean(score.sum(), len(score)),
    }


def sharpening_loss(refinement: Refinement, deepmask: DeepMask, batch: Patch) -> Mapping[str, Mean]:
    """Loss of phase 2: sharp masks, with DeepMask frozen (SharpMask, section 2.2)."""
    with torch.no_grad():
        features, code = deepmask(batch["image"] / 255)
    masks = refinement(code.flatten(1), refinement.lateral(features))
    per_pixel = soft_margin(masks, batch["mask"])
    return {"mask": Mean(per_pixel.sum(), per_pixel.numel())}


def sharpmask_trainings(
    source: Sequence[SourceImage], parameters: SharpMaskParameters
) -> tuple[SharpMask, tuple[Training[Any], Training[Any]]]:
    """Build a network and the trainings of its two phases, to be run in this order.

    Raises
    ------
    InputError
        If the source has no object to train on, or if the network to start from is another one.
    """
    runtime.seed_everything(parameters.seed)
    coarse = PatchSamples(source, parameters, COARSE_TARGET_SIDE, background=True)
    sharp = PatchSamples(source, parameters, WINDOW, background=False)
    trained_on = f"{coarse.objects} instance masks on {len(source)} images of {parameters.path}"
    start = None if parameters.start == "none" else Path(parameters.start)
    if start is not None:
        before = read_description(start, SharpMaskDescription)
        trained_on = f"{before.trained_on}; then {trained_on}"
    description = SharpMaskDescription(
        trained_on=trained_on,
        **parameters.model_dump(include=set(SharpMaskDescription.model_fields)),
    )
    weights = parameters.weights if start is None else "none"
    network = SharpMask(description, weights, parameters.dropout)
    if start is not None:
        load_weights(start, network)
    runtime.channels_last(network, runtime.device())
    deepmask, refinement = network.deepmask, network.refinement
    phases = (
        Training(
            "DeepMask",
            deepmask,
            partial(deepmask_loss, deepmask, parameters.mask_loss_weight),
            coarse,
            parameters.deepmask,
            parameters.seed,
        ),
        Training(
            "SharpMask",
            refinement,
            partial(sharpening_loss, refinement, deepmask),
            sharp,
            parameters.sharpening,
            parameters.seed,
        ),
    )
    return network, phases
