"""Train the proposal network on a source of masks of any objects."""

from pathlib import Path

from pipeline.artifacts.files import write_json
from pipeline.artifacts.weights import write_weights
from pipeline.datasets.coco import read_source
from pipeline.sharpmask import SharpMaskParameters, train
from stages import SHELF, read_parameters, run, scratch, shelve


def main() -> None:
    """Read the source, write data/sharpmask."""
    parameters = read_parameters(SharpMaskParameters, "sharpmask")
    source = read_source(Path(parameters.path))
    with scratch("sharpmask") as folder:
        network, description, losses = train(source, parameters, folder)
        write_weights(folder / "weights.safetensors", network, description)
        write_json(folder / "metrics.json", losses, indent=1)
        for name in ("weights.safetensors", "metrics.json", "curves"):
            shelve(folder / name, SHELF / "sharpmask" / name)
    print(f"sharpmask: trained on {description.trained_on}")


if __name__ == "__main__":
    run(main)
