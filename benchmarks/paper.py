"""What the trainings of the paper's setting cost: `python -m benchmarks.paper`.

Networks, sizes of the input and batches are those of `presets/voc2012.yaml`. The weights are random
and the photographs are drawn, so that nothing has to be downloaded. Each training runs in a process
of its own. Its memory is the peak of the GPU, or of the process if there is none.
"""

import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.table import ROOT, machine, timed
from benchmarks.training import full_step, supervised, write_stores
from pipeline.classifier.training import PrmParameters, fine_tuning, untrained
from pipeline.common import runtime
from pipeline.dataset.scenes.files import draw_coco
from pipeline.detectors.mask_rcnn.training import MaskRcnnParameters, detector_training
from pipeline.proposals.sharpmask.parameters import SharpMaskParameters
from pipeline.proposals.sharpmask.source import read_source
from pipeline.proposals.sharpmask.training import sharpmask_trainings
from pipeline.training.fit import Training
from stages.common.yaml_files import read_yaml
from wise.preset import write_preset

PRESET = "voc2012"
TRAININGS = ("prm", "sharpmask.deepmask", "sharpmask.sharpening", "mask_rcnn")
PHOTOGRAPHS = 1_464  # in the official list `train`
DRAWN, STEPS, STEPS_ON_A_CPU = 8, 3, 1


class Cost(NamedTuple):
    """What a training costs.

    seconds : of a step, without loading: the median of `STEPS` after a first one; on a CPU, where
        a step may take a minute, of `STEPS_ON_A_CPU`.
    bytes : peak memory.
    batch_size, steps : of the whole training.
    """

    seconds: float
    bytes: int
    batch_size: int
    steps: int

    def row(self, name: str) -> str:
        """Format a row of the table."""
        memory, hours = self.bytes / 2**30, self.seconds * self.steps / 3600
        figures = f"{self.seconds:.3g} | {memory:.1f} | {self.steps:,} | {hours:,.1f}"
        return f"| {name} | {self.batch_size} | {figures} |"


def main() -> None:
    """Print the costs of all trainings as a table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT / "presets", folder / "presets")
        write_preset(PRESET, folder)
        parameters = read_yaml(folder / "params.yaml")
        write_photographs(folder, parameters)
        print(machine())
        print("\n| training | batch | s per step | GiB | steps | hours |")
        print("|---|---:|---:|---:|---:|---:|", flush=True)
        for training in TRAININGS:
            print(_in_a_process(training, folder).row(training), flush=True)


def write_photographs(folder: Path, parameters: Mapping[str, Any]) -> None:
    """Draw photographs with masks, and write stores in which the masks are pseudo masks."""
    draw_coco(folder / "source", DRAWN, seed=0)
    write_stores(folder, tuple(parameters["dataset"]["classes"]))


def _in_a_process(training: str, folder: Path) -> Cost:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.paper", training, str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return Cost(*json.loads(done.stdout))


def measure(name: str, folder: Path, parameters: Mapping[str, Any]) -> Cost:
    """Measure the steps of a training on a full batch, with its optimizer."""
    runtime.keep_freed_memory()  # as every stage does
    training, device = build(name, folder, parameters), runtime.device()
    step, samples, schedule = full_step(training), training.samples, training.schedule
    count = STEPS if runtime.on_gpu(device) else STEPS_ON_A_CPU
    _, *seconds = [timed(step) for _ in range(1 + count)]
    an_epoch = len(samples) if name.startswith("sharpmask") else PHOTOGRAPHS
    steps = schedule.epochs * -(-an_epoch // schedule.batch_size)
    return Cost(statistics.median(seconds), _peak_bytes(device), schedule.batch_size, steps)


def build(name: str, folder: Path, parameters: Mapping[str, Any]) -> Training[Any]:
    """Build one of the `TRAININGS`, with random weights."""
    stage, _, phase = name.partition(".")
    values = parameters[stage] | {"weights": "none"}
    if stage == "prm":
        classifier = PrmParameters.parse(values, stage)
        split = supervised(folder)[0]
        return fine_tuning(untrained(split, classifier), split, classifier)
    if stage == "mask_rcnn":
        return detector_training(name, *supervised(folder), MaskRcnnParameters.parse(values, stage))
    source = read_source(folder / "source")
    _, phases = sharpmask_trainings(source, SharpMaskParameters.parse(values, stage))
    return phases[("deepmask", "sharpening").index(phase)]


def _peak_bytes(device: torch.device) -> int:
    if runtime.on_gpu(device):
        return torch.get_device_module(device).max_memory_reserved(device)
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes * 1024


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            main()
        case [training, folder]:
            project = Path(folder)
            print(json.dumps(measure(training, project, read_yaml(project / "params.yaml"))))
