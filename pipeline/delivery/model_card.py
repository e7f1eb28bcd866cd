"""The model card of a trained detector: its data, supervision, parameters and metrics.

The format is that of Hugging Face's model cards: YAML front matter, then Markdown (card.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml
from huggingface_hub import EvalResult, ModelCardData

from pipeline.report.tables import is_judged, methods


@dataclass(frozen=True)
class DetectorOrigin:
    """The provenance of a detector.

    Attributes
    ----------
    classes : class names, in the order of the detector's labels.
    images : number of images of the lists `train` and `val`.
    proposals : attributes of the proposal store: `method` and `supervision`.
    others : photographs without a class that the classifier was trained on, in words, or ''.
    parameters : the content of params.yaml.
    metrics : metrics of the stage `evaluation`, or None if it has not run.
    commit : the commit of code and parameters, in words.
    state : whether the outputs are up to date according to DVC, in words.
    """

    classes: tuple[str, ...]
    images: Mapping[str, int]
    proposals: Mapping[str, Any]
    others: str
    parameters: Mapping[str, Any]
    metrics: Mapping[str, Any] | None
    commit: str
    state: str


def model_card(origin: DetectorOrigin) -> str:
    """Render the model card of a detector, in Markdown."""
    metrics = origin.metrics
    judged = methods(metrics) if metrics is not None and is_judged(metrics) else {}
    # At the IoU thresholds that the stage evaluation was run with.
    summary = next(iter(judged.values()))["wise"] if judged else {}
    means = [name for name in summary if _is_mean(name)]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown
    )
    return environment.get_template("card.md").render(
        vars(origin),
        front_matter=_front_matter(origin, judged, means),
        judged=judged,
        unjudged="not evaluated" if metrics is None else "there are no true masks to compare with",
        means=means,
        parameters_yaml=yaml.safe_dump(
            dict(origin.parameters), sort_keys=False, allow_unicode=True
        ).rstrip(),
    )


def _is_mean(name: str) -> bool:
    return (name.startswith("mAP") and not name.endswith("_interval")) or name == "ABO"


def _front_matter(origin: DetectorOrigin, judged: Mapping[str, Any], means: Sequence[str]) -> str:
    """Return the YAML front matter, with the detector's metrics on the evaluation list."""
    dataset = origin.parameters["dataset"]
    of_detector = judged.get("wise") or judged.get("community+mask_rcnn", {})
    results = [
        EvalResult(
            task_type="image-segmentation",
            task_name="instance segmentation",
            dataset_type=dataset["kind"],
            dataset_name=f"{dataset['kind']}, {dataset['val']}",
            dataset_split="validation",
            metric_type=mean,
            metric_name=f"{mean}, protocol {protocol}, in percent",
            metric_value=summary[mean],
        )
        for protocol, summary in of_detector.items()
        for mean in means
        if summary[mean] is not None
    ]
    data = ModelCardData(
        library_name="torchvision",
        pipeline_tag="image-segmentation",
        tags=["instance-segmentation", "weakly-supervised", "mask-rcnn", "wise"],
        model_name="WISE Mask R-CNN",
        eval_results=results or None,
    )
    return str(data.to_yaml())
