"""Tables 1 to 3 of community learning (Kim et al., WACV 2021), on the dataset of params.yaml.

`python -m benchmarks.community` trains every variant, each as a DVC experiment in a copy of the
project, and prints a row for each as soon as it is there. Finished stages are not repeated: run it
again after an interruption. The paper's figures are of VOC 2012 with ResNet-50.
"""

import hashlib
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.table import machine
from pipeline.common.errors import InputError
from pipeline.evaluation.tables import value_cell
from wise.project import root
from wise.seeds import run_experiment, untracked_inputs

_PARTS = "community.architecture"
_PLAIN_GAP = 100.0  # a Gaussian this wide weighs all cells alike
_DETECTOR = {"regression": False, "mask_generation": False, "segmentation": False}
_WITHOUT_REG = {"regression": False}
# For each variant, the changed parameters of the architecture, and what the paper has of it:
# mAP25, mAP50 and mAP75 of masks, mAP50 of boxes, and CorLoc of the training images.
VARIANTS: dict[str, tuple[dict[str, Any], str]] = {
    "detector": (_DETECTOR, "- / - / -, 45.3, 63.6"),
    "detector + IMG": (
        {"regression": False, "segmentation": False},
        "- / 32.8 / -, 48.6, 66.3",
    ),
    "detector + IMG + IS": (_WITHOUT_REG, "54.9 / 33.7 / 5.6, 49.7, 66.8"),
    "detector + REG + IMG + IS": ({}, "57.0 / 35.7 / 5.8, 53.6, 70.8"),
    "without REG, background class": (
        {**_WITHOUT_REG, "background_class": False, "map_normalization": "max"},
        "- / 27.4 / -",
    ),
    "without REG, weighted GAP and smoothing": (
        {**_WITHOUT_REG, "gap_sigma": _PLAIN_GAP, "smooth_features": False},
        "- / 28.8 / -",
    ),
    "without REG and smoothing": (
        {**_WITHOUT_REG, "smooth_features": False},
        "- / 30.0 / -",
    ),
    "without REG and weighted GAP": ({**_WITHOUT_REG, "gap_sigma": _PLAIN_GAP}, "- / 31.8 / -"),
}
MASKS = ("mAP25", "mAP50", "mAP75")


def main() -> None:
    """Run all variants, and Mask R-CNN on the instances of the whole network; print a table."""
    project = root()
    digest = hashlib.sha256((project / "params.yaml").read_bytes()).hexdigest()[:6]
    copied = untracked_inputs(project)
    print(f"{machine()}; protocol coco\n", flush=True)
    print(f"| variant | {' | '.join(MASKS)} | box mAP50 | CorLoc, train | paper |")
    print(f"|---|{'---|' * 6}", flush=True)

    def metrics_of(number: int, changes: Mapping[str, Any]) -> dict[str, Any]:
        name = f"community-{digest}-{number}"
        return run_experiment(project, name, {"community.enabled": True, **changes}, copied)

    for number, (title, (changed, published)) in enumerate(VARIANTS.items()):
        changes = {f"{_PARTS}.{key}": value for key, value in changed.items()}
        print(row(title, metrics_of(number, changes), "community", published), flush=True)
    for number, source in enumerate(("community", "mixed"), len(VARIANTS)):
        metrics = metrics_of(number, {"mask_rcnn.pseudo_masks": source})
        title = f"community+mask_rcnn, {source}"
        print(row(title, metrics, "community+mask_rcnn", "not published"), flush=True)


def row(title: str, metrics: Mapping[str, Any], method: str, published: str) -> str:
    """Format the metrics of a method as a row of the table."""
    of_val, of_train = metrics[method]["coco"], metrics[f"{method}/train"]["coco"]
    cells = [value_cell(of_val, name) for name in MASKS]
    boxes = [f"{of_val['box_mAP50']:.1f}", f"{of_train['CorLoc']:.1f}"]
    return f"| {' | '.join([title, *cells, *boxes, published])} |"


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"benchmarks.community: {error}")
