"""Fit a power for the scores of each class, from the tags of the training images."""

from pipeline.artifacts.calibration import Calibration
from pipeline.artifacts.draws import FirstDraws
from pipeline.detectors.calibration import CalibrationParameters, fit
from stages.common.parameters import read_parameters
from stages.common.run import run
from stages.common.scratch import check_inputs, scratch
from stages.common.shelf import Shelf


def main() -> None:
    """Read the draws and the predictions of train, write data/calibration."""
    parameters = read_parameters(CalibrationParameters, "calibration")
    shelf = Shelf()
    split = shelf.splits["train"].open()
    draws = FirstDraws(shelf.draws.open(), shelf.proposals["train"].open())
    detections = shelf.predictions["train"].open()
    with scratch("calibration") as unfinished:
        calibration = (
            fit(split, draws, detections, parameters.max_overlap)
            if parameters.enabled
            else Calibration.off(split.classes)
        )
        calibration.write(unfinished / "calibration.json")
        check_inputs(unfinished)
        shelf.publish(unfinished / "calibration.json", "calibration", "calibration.json")
    if not calibration.enabled:
        print("calibration: off; scores stay as they are")
        return
    for name, count, power in zip(
        calibration.classes, calibration.expected, calibration.powers, strict=True
    ):
        print(f"calibration: {name}: {count} expected objects, power {power:.2f}")


if __name__ == "__main__":
    run(main)
