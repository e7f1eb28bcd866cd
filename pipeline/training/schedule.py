"""Training schedule: optimizer, learning rate, number of epochs."""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from pipeline.common import runtime
from pipeline.common.parameters import Parameters


class Schedule(Parameters):
    """Training schedule of a network.

    The learning rate grows linearly for `warmup_steps`. It then stays constant and is divided by
    10 at each epoch in `milestones`, or it decays to 0 along a half cosine wave.
    """

    renamed: ClassVar[Mapping[str, str]] = {
        "batch": "batch_size",
        "optimiser": "optimizer",
        "rate": "learning_rate",
        "backbone_factor": "backbone_lr_factor",
        "warmup": "warmup_steps",
        "decay": "lr_decay",
        "clip": "max_grad_norm",
    }

    epochs: PositiveInt = Field(description="number of epochs")
    batch_size: PositiveInt = Field(description="number of samples per step")
    optimizer: Literal["sgd", "adamw"] = Field(description="sgd: with momentum 0.9")
    learning_rate: PositiveFloat = Field(description="learning rate of new layers")
    backbone_lr_factor: NonNegativeFloat = Field(
        description="learning rate of the backbone, as a fraction of learning_rate; 0: frozen"
    )
    weight_decay: NonNegativeFloat = Field(description="weight decay of all weights")
    warmup_steps: NonNegativeInt = Field(
        0, description="number of steps in which the learning rate grows linearly to its value"
    )
    lr_decay: Literal["constant", "cosine"] = Field(
        "constant",
        description="decay of the learning rate after warmup; cosine: to 0 along a half wave",
    )
    milestones: tuple[PositiveInt, ...] = Field(
        (), description="epochs at which a constant learning rate is divided by 10"
    )
    max_grad_norm: NonNegativeFloat = Field(
        0.0, description="norm to which larger gradients are clipped; 0: no clipping"
    )
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay per step of a moving average (EMA) of the weights, with which the "
        "training ends; 0: off",
    )


def make_optimizer(network: torch.nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """Make the optimizer, with two parameter groups: the backbone and all other layers."""
    learning = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {
            "params": [p for n, p in learning if n.startswith("backbone.")],
            "lr": schedule.learning_rate * schedule.backbone_lr_factor,
        },
        {"params": [p for n, p in learning if not n.startswith("backbone.")]},
    ]
    common: dict[str, Any] = {
        "lr": schedule.learning_rate,
        "weight_decay": schedule.weight_decay,
        "fused": runtime.on_gpu(runtime.device()),  # updates all weights in a few kernels
    }
    if schedule.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, **common)
    return torch.optim.AdamW(groups, **common)


def rate_factor(schedule: Schedule, steps: int) -> Callable[[int], float]:
    """Return the function from a step to its learning rate, as a fraction of the base rate.

    Parameters
    ----------
    steps : number of steps per epoch.
    """
    total = steps * schedule.epochs

    def factor(step: int) -> float:
        if step < schedule.warmup_steps:
            return (step + 1) / (schedule.warmup_steps + 1)
        if schedule.lr_decay == "cosine":
            done = (step - schedule.warmup_steps) / max(1, total - schedule.warmup_steps)
            return (1 + math.cos(math.pi * min(done, 1.0))) / 2
        passed = sum(step >= epoch * steps for epoch in schedule.milestones)
        return float(0.1**passed)

    return factor
