"""Fit a power for the scores of each class, from the tags of the training images."""

from pipeline.artifacts.calibration import Calibration
from pipeline.artifacts.draws import FirstDraws
from pipeline.detectors.calibration import CalibrationParameters, fit
from stages.common.parameters import read_parameters
from stages.common.run import run
from stages.common.scratch import check_inputs, scratch
from stages.common.shelf import Shelf


def main() -> None:
    """Read the draws, the predictions and the refined ones of train, write data/calibration."""
    parameters = read_parameters(CalibrationParameters, "calibration")
    shelf = Shelf()
    split = shelf.splits["train"].open()
    draws = FirstDraws(shelf.draws.open(), shelf.proposals["train"].open())
    with scratch("calibration") as unfinished:
        place = unfinished / "calibration"
        for stage, detections in (
            ("predictions", shelf.predictions["train"].open()),
            ("refinement", shelf.refinement["train"].open()),
        ):
            calibration = (
                fit(split, draws, detections, parameters.max_overlap)
                if parameters.enabled
                else Calibration.off(split.classes)
            )
            calibration.write(place / f"{stage}.json")
            print(f"calibration, {stage}: {powers(calibration)}")
        check_inputs(unfinished)
        shelf.publish(place, "calibration")


def powers(calibration: Calibration) -> str:
    """Name the power and the number of expected objects of each class."""
    if not calibration.enabled:
        return "off; scores stay as they are"
    return ", ".join(
        f"{name} {power:.2f} for {count} objects"
        for name, count, power in zip(
            calibration.classes, calibration.expected, calibration.powers, strict=True
        )
    )


if __name__ == "__main__":
    run(main)
