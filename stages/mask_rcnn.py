"""Train the detector on the pseudo masks that the sampler drew."""

from pathlib import Path

from pipeline import runtime
from pipeline.artifacts.draws import DrawStore
from pipeline.artifacts.instances import InstanceStore, InstanceWriter
from pipeline.artifacts.proposals import ProposalStore
from pipeline.artifacts.split import Split
from pipeline.distributed import join
from pipeline.mask_rcnn import MaskRcnnParameters, Objects, PseudoMasks, train
from pipeline.parallel import fill
from pipeline.predictions import PredictionsParameters, Predictor
from pipeline.self_training import Relabelled
from pipeline.training import RESULTS, Places, write_results
from stages import SHELF, read_parameters, run, scratch, shelve

LEAST_SCORE, MOST_FINDS = 0.05, 100  # of a find, and in an image: as COCO counts


def main() -> None:
    """Read the images, draws and proposals of train, write data/mask_rcnn."""
    parameters = read_parameters(MaskRcnnParameters, "mask_rcnn")
    split = Split.read(SHELF / "dataset" / "train.json")
    draws = DrawStore(SHELF / "sampler" / "train")
    proposals = ProposalStore(SHELF / "proposals" / "train")
    objects: Objects = PseudoMasks(split, draws, proposals, parameters.schedule.epochs)
    start: Path | None = None
    with scratch("mask_rcnn") as unfinished:
        for number in range(1, parameters.rounds + 1):
            place = unfinished / f"round{number}"
            what = f"mask_rcnn, round {number}" if parameters.rounds > 1 else "mask_rcnn"
            metrics = learn(split, objects, parameters, place, what, start)
            start = place / "weights.safetensors"
            if number < parameters.rounds:
                found = search(split, place, parameters.overlap)
                objects = Relabelled(split, found, parameters.least_find, objects)
        if runtime.is_main_process():
            for name in RESULTS:
                shelve(place / name, SHELF / "mask_rcnn" / name)
            print(
                f"mask_rcnn: {metrics['images']} images, {metrics['images_skipped']} without "
                f"pseudo masks skipped, loss {metrics['loss']:.3f}"
            )


def learn(
    split: Split,
    objects: Objects,
    parameters: MaskRcnnParameters,
    place: Path,
    what: str,
    start: Path | None,
) -> dict[str, float]:
    """Train a round and leave its results at a place; a finished one is found and not repeated."""
    places = Places(place / "checkpoint.pt", place / "curves")
    network, metrics = train(split, objects, parameters, places, what, start)
    if runtime.is_main_process():
        write_results(place, network, network.description, metrics)
    return metrics


def search(split: Split, place: Path, overlap: float) -> InstanceStore:
    """Find instances in the training images, with the weights of a round."""
    finds = PredictionsParameters(
        score_threshold=LEAST_SCORE,
        detections=MOST_FINDS,
        presence=0,
        flip=False,
        overlap=overlap,
    )
    if runtime.is_main_process():
        with InstanceWriter(place / "train", "mask_rcnn", split.classes, {}) as store:
            predictor = Predictor(place / "weights.safetensors", finds)
            fill(store, predictor, split.path, split.photographs, "mask_rcnn, finds")
    join().wait()
    return InstanceStore(place / "train")


if __name__ == "__main__":
    run(main)
