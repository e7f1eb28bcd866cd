"""Hold the instances of every method against the true masks, where there are any."""

from pipeline import evaluation
from pipeline.artifacts import files
from pipeline.artifacts.draws import DrawStore
from pipeline.artifacts.instances import InstanceStore
from pipeline.artifacts.proposals import ProposalStore
from pipeline.artifacts.truth import Truth
from pipeline.evaluation import EvaluationParameters, Method, PseudoMasks
from pipeline.progress import track
from stages import SHELF, read_parameters, run, scratch, shelve


def main() -> None:
    """Read the truth and all instances, write data/evaluation."""
    parameters = read_parameters(EvaluationParameters, "evaluation")
    train = Truth.read(SHELF / "dataset" / "truth" / "train.json")
    val = Truth.read(SHELF / "dataset" / "truth" / "val.json")
    proposals = ProposalStore(SHELF / "proposals" / "train")
    pseudo_masks = PseudoMasks(DrawStore(SHELF / "sampler" / "train"), proposals)
    methods = {
        "pseudo_masks": Method(train, pseudo_masks, confidences=False),
        "wise": Method(val, InstanceStore(SHELF / "predictions" / "val")),
        "wise+refine": Method(val, InstanceStore(SHELF / "refinement" / "val")),
        "wise/train": Method(train, InstanceStore(SHELF / "predictions" / "train")),
        "wise+refine/train": Method(train, InstanceStore(SHELF / "refinement" / "train")),
    }
    metrics = {}
    with scratch("evaluation") as work:
        for name, method in track(methods.items(), len(methods), "methods"):
            metrics[name] = evaluation.evaluate(method, parameters)
            file_name = f"{name.replace('/', '-')}.json.gz"
            evaluation.write_results(work / "instances" / file_name, method)
        files.write_json(work / "metrics.json", metrics, indent=1)
        evaluation.write_per_class(work / "per_class.csv", metrics)
        table = evaluation.markdown_table(metrics, proposals.attributes["supervision"])
        files.write_bytes(work / "table.md", table.encode())
        for part in ("instances", "metrics.json", "per_class.csv", "table.md"):
            shelve(work / part, SHELF / "evaluation" / part)
    print(table)
    judged = {"train": len(train.images), "val": len(val.images)}
    for split, images in judged.items():
        if not images:
            print(f"evaluation: no image of {split} has true masks: nothing to compare with")
    print(f"evaluation: {len(methods)} methods, {judged['train']} + {judged['val']} images")


if __name__ == "__main__":
    run(main)
