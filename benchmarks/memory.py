"""Whether the memory of the per-image stages grows with the number of images.

Runs every per-image stage on 256 and on 768 training images, those of the shelf over and over,
and on no evaluation images, in a copy of the checkout; prints the peak memory of its largest
process. Fewer than 256 images, a part of a store, would need less. Needs a shelf: run `dvc repro`
first, then `python -m benchmarks.memory`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from itertools import cycle
from pathlib import Path

from pipeline.artifacts.split import Split

STAGES = ("peaks", "proposals", "sampler", "predictions", "refinement")
COUNTS = (256, 768)
ROOT = Path(__file__).parent.parent


def main() -> None:
    """Print a row a stage: MiB at each number of images."""
    print("stage", *(f"{count} images" for count in COUNTS), sep="\t")
    peaks = {count: peak_memory(count) for count in COUNTS}
    for stage in STAGES:
        print(stage, *(f"{peaks[count][stage]:.0f} MiB" for count in COUNTS), sep="\t")


def peak_memory(count: int) -> dict[str, float]:
    """MiB of the largest process of every stage, on `count` images."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("pipeline", "stages", "data", "dvc.yaml", "params.yaml"):
            (shutil.copytree if (ROOT / part).is_dir() else shutil.copy)(ROOT / part, folder / part)
        for split_name, kept in (("train", count), ("val", 0)):
            index = folder / "data" / "dataset" / f"{split_name}.json"
            split = Split.read(index)
            repeated = [
                photograph.model_copy(update={"id": f"{photograph.id}_{number}"})
                for number, photograph in zip(range(kept), cycle(split.photographs), strict=False)
            ]
            split.model_copy(update={"photographs": tuple(repeated)}).write(index)
        return {stage: _run(stage, folder) for stage in STAGES}


def _run(stage: str, folder: Path) -> float:
    quiet = subprocess.DEVNULL
    command = [sys.executable, "-m", f"stages.{stage}"]
    process = subprocess.Popen(command, cwd=folder, stdout=quiet, stderr=quiet)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{stage} failed; run it alone to see why")
    return usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
