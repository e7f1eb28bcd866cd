"""Measure what the compact form of a detector costs: `python -m benchmarks.box NAME|FILE`.

In a project in which the detector was trained. Detects the instances of the evaluation photographs
with the file, and evaluates them and those in data/predictions, which the same detector gave before
its weights were rounded.

Example: wise preset voc2012-animals-best && dvc repro calibration
python -m wise.box detector animals --preset voc2012-animals-best
python -m benchmarks.box animals
"""

import sys
from collections.abc import Iterator
from typing import Any

from pipeline.artifacts.instances import Instances
from pipeline.common import runtime
from pipeline.common.errors import InputError
from pipeline.delivery.new_photographs import PhotographPredictor
from pipeline.evaluation.protocols import EvaluationParameters, Method, pairs_of
from pipeline.evaluation.summary import evaluate, mean_names
from pipeline.execution.photographs import map_photographs
from stages.common.parameters import read_parameters
from stages.common.shelf import Shelf
from wise.detector import choose


class Detected:
    """Instances of photographs, held in memory."""

    def __init__(self, classes: tuple[str, ...], found: dict[str, Instances]) -> None:
        self.attributes: dict[str, Any] = {"classes": classes}
        self.instances = found.__getitem__
        self._found = found

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)


def main(weights: str) -> None:
    """Print a table of mAP with both forms."""
    runtime.keep_freed_memory()
    parameters = read_parameters(EvaluationParameters, "evaluation")
    shelf = Shelf()
    split, truth = shelf.splits["val"].open(), shelf.truth["val"].open()
    predictor = PhotographPredictor(choose(weights, 0.0).detector)
    results = map_photographs(predictor, split.path, split.photographs, weights, on_device=True)
    found = {photograph.id: as_instances(result) for photograph, result in results}
    trained = shelf.calibrated("predictions", "val")
    names = mean_names(parameters)
    print("| weights | protocol |", " | ".join(names), "|")
    print("|---|---|", "---:|" * len(names), sep="")
    for name, source in (("as trained", trained), (weights, Detected(split.classes, found))):
        metrics, _ = evaluate(pairs_of(Method(truth, source), parameters), parameters)
        for protocol, summary in metrics.items():
            values = " | ".join(f"{summary[mean]:.2f}" for mean in names)
            print(f"| {name} | {protocol} | {values} |")


def as_instances(result: Instances | InputError) -> Instances:
    if isinstance(result, InputError):
        raise result
    return result


if __name__ == "__main__":
    try:
        main(*sys.argv[1:2])
    except InputError as error:
        sys.exit(f"error: {error}")
