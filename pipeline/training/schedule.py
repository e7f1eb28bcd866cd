"""How a network is optimised: optimizer, learning rate, number of epochs."""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from pipeline.common import runtime
from pipeline.common.parameters import Parameters


class Schedule(Parameters):
    """How a network is optimised.

    `rate` is that of new layers; pretrained ones learn at `rate * backbone_factor`. After
    `warmup` steps of linear growth the rate is `constant`, falls along a half `cosine` to
    nothing, or is divided by ten at each of the epochs in `milestones`.
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

    epochs: PositiveInt = Field(description="visits to every item")
    batch_size: PositiveInt = Field(description="items a step")
    optimizer: Literal["sgd", "adamw"] = Field(description="sgd: with momentum 0.9")
    learning_rate: PositiveFloat = Field(description="learning rate of new layers")
    backbone_lr_factor: NonNegativeFloat = Field(
        description="that of pretrained layers, in parts of rate; 0: they stay as they are"
    )
    weight_decay: NonNegativeFloat = Field(description="of all weights, as the optimizer takes it")
    warmup_steps: NonNegativeInt = Field(
        0, description="steps in which the rate grows to its value"
    )
    lr_decay: Literal["constant", "cosine"] = Field(
        "constant", description="of the rate after warmup; cosine: along a half wave, to 0"
    )
    milestones: tuple[PositiveInt, ...] = Field(
        (), description="epochs at each of which a constant rate is divided by 10"
    )
    max_grad_norm: NonNegativeFloat = Field(
        0.0, description="largest norm of the gradient; 0: no limit"
    )


def make_optimizer(network: torch.nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """Two groups: what is under `backbone` in the network, and everything else."""
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
        "fused": runtime.device().type == "cuda",  # all weights in a few kernels
    }
    if schedule.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, **common)
    return torch.optim.AdamW(groups, **common)


def rate_factor(schedule: Schedule, steps: int) -> Callable[[int], float]:
    """Give the learning rate of a step as a fraction of its value; an epoch has `steps`."""
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
