"""What a training step of community learning costs: `python -m benchmarks.community_step`.

One photograph of 320 x 480 pixels and 20 classes per step, with one thread. The variants take
turns, and CPU seconds are counted rather than those of the clock, so that other work on the machine
matters little. With `--profile`, the operations of a step of the first variant follow.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.profiler import ProfilerActivity, profile

from benchmarks.table import ROOT, machine
from pipeline.common import runtime
from pipeline.community.network import Community, CommunityArchitecture, CommunityDescription
from pipeline.community.training import CommunityParameters, image_losses

SIZE, CLASSES, RUNS = (320, 480), 20, 7
# Regions per image, those that train the masks, and frozen levels of the backbone.
VARIANTS = [(300, 64, 1), (300, 64, 0), (300, 64, 2), (100, 64, 1), (300, 300, 1)]


def main(arguments: list[str]) -> None:
    """Time all variants in turns; print a table, and a profile if it is asked for."""
    torch.set_num_threads(1)
    runtime.keep_freed_memory()
    steps = [make_step(*variant) for variant in VARIANTS]
    taken: list[list[float]] = [[] for _ in steps]
    for run in range(RUNS + 1):
        for step, seconds in zip(steps, taken, strict=True):
            start = time.process_time()
            step()
            if run:  # the first one prepares the kernels
                seconds.append(time.process_time() - start)
    print(machine())
    print("\n| regions | of these for masks | frozen levels | CPU seconds, median | least | most |")
    print("|---|---|---|---|---|---|")
    for variant, seconds in zip(VARIANTS, taken, strict=True):
        figures = [statistics.median(seconds), min(seconds), max(seconds)]
        print(f"| {' | '.join([*map(str, variant), *(f'{one:.2f}' for one in figures)])} |")
    if "--profile" in arguments:
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            steps[0]()
        print(profiled.key_averages().table(sort_by="self_cpu_time_total", row_limit=12))


def make_step(regions: int, mask_regions: int, frozen_levels: int) -> Callable[[], None]:
    """Return a function that computes the losses and gradients of one photograph of noise."""
    values = yaml.safe_load(Path(ROOT, "presets", "scenes.yaml").read_text())["community"]
    values["architecture"] |= {"cells": 28, "width": 64, "frozen_levels": frozen_levels}
    values |= {"max_regions": regions, "mask_regions": mask_regions}
    parameters = CommunityParameters.parse(values, "community")
    network = _network(parameters.architecture)
    height, width = SIZE
    corners = torch.rand(regions, 2, 2).sort(dim=1).values * torch.tensor([width - 1.0, height - 1])
    corners[:, 1] += 1  # no side is 0
    tags = torch.zeros(CLASSES, dtype=torch.bool)
    tags[[2, 5]] = True
    image = torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8)
    terms = partial(image_losses, network, parameters, image, corners.flatten(1), tags, 0)
    return partial(_step, network, terms)


def _network(architecture: CommunityArchitecture) -> Community:
    runtime.seed_everything(0)
    classes = tuple(str(number) for number in range(CLASSES))
    network = Community(CommunityDescription(classes=classes, architecture=architecture), "package")
    return runtime.channels_last(network.train(), torch.device("cpu"))


def _step(network: Community, terms: Callable[[], dict[str, Any]]) -> None:
    network.zero_grad(set_to_none=True)
    torch.stack(list(terms().values())).sum().backward()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main(sys.argv[1:])
