"""Object proposals by SAM 2 (Ravi et al., ICLR 2025), prompted with a grid of points.

For each point the network returns three masks, each with the IoU that it predicts for it
(Kirillov et al., ICCV 2023, section 3). The predicted IoU is the objectness.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import metadata_load
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from torch import Tensor
from yaml import YAMLError

from pipeline.artifacts.proposals import Proposals
from pipeline.common import finite, masks, runtime
from pipeline.common.errors import InputError, first_line
from pipeline.common.images import read_image
from pipeline.common.masks import Rle
from pipeline.common.parameters import Parameters

EXTRA = "pip install '.[sam]'"
DOWNLOAD = "hf download facebook/sam2.1-hiera-tiny --local-dir sam2.1-hiera-tiny"
_POINTS_PER_BATCH = 64
_MASKS_PER_BATCH = 16


class SamParameters(Parameters):
    """Settings of the method `sam`: where SAM 2 is prompted."""

    points_per_side: int = Field(
        ge=1, le=256, description="points of the grid along each side of the image"
    )
    nms_threshold: float = Field(
        gt=0,
        le=1,
        description="IoU threshold of non-maximum suppression of masks; 1: no suppression",
    )


@dataclass(frozen=True)
class SamProposer:
    """Computes the proposals of photographs with SAM 2.

    weights : folder of the model, as `Sam2Model.save_pretrained` and the Hugging Face hub have it.
    count : maximum number of proposals.
    """

    weights: Path
    parameters: SamParameters
    count: int

    def __call__(self, photograph: Path) -> Proposals:
        """Propose masks for a photograph, best first."""
        model, processor = load_sam(self.weights)
        image = read_image(photograph)
        logits, score = _prompted(model, processor, image, self.parameters.points_per_side)
        best = _best(logits, score, self.parameters.nms_threshold)[: self.count]
        rles = _full_size(processor, logits[best], image.shape[:2])
        kept = np.flatnonzero(masks.area(rles))
        return Proposals([rles[number] for number in kept], score[best][kept])


def supervision(weights: Path, fine_tuned: str) -> str:
    """Say what a model was trained on, and under which license it is.

    Parameters
    ----------
    weights : folder of the model; the license is read from its README.md, a model card.
    fine_tuned : what the weights were trained on, if not as published.

    Raises
    ------
    InputError
        If transformers is not installed, there is no such folder, or the card is invalid.
    """
    _transformers()
    if not weights.is_dir():
        raise InputError(f"{weights}: no such folder; for example: {DOWNLOAD}")
    card = weights / "README.md"
    try:
        described = metadata_load(card) if card.is_file() else None
    except (ValueError, YAMLError) as error:
        raise InputError(f"{card}: not a model card ({first_line(error)})") from None
    trained_on = fine_tuned or "masks of SA-1B and SA-V"
    license_ = (described or {}).get("license", "not stated")
    return f"{trained_on} (SAM 2, license: {license_})"


@lru_cache(maxsize=1)
def load_sam(weights: Path) -> tuple[Any, Any]:
    """Load a model, on the device, and its processor from a folder; the last ones stay loaded.

    Raises
    ------
    InputError
        If transformers is not installed, or the folder does not hold a whole SAM 2.
    """
    transformers = _transformers()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        processor = transformers.Sam2Processor.from_pretrained(weights)
        model, report = transformers.Sam2Model.from_pretrained(
            weights, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # from_pretrained raises various errors for invalid files
        raise InputError(f"{weights}: not a SAM 2 ({first_line(error)}); {DOWNLOAD}") from None
    if report["missing_keys"]:  # transformers would leave them random
        raise InputError(f"{weights}: not a SAM 2 (no {min(report['missing_keys'])}); {DOWNLOAD}")
    finite.check(str(weights), model.state_dict())
    return model.to(runtime.device()).eval(), processor


def _transformers() -> Any:
    try:
        import transformers
    except ModuleNotFoundError:
        raise InputError(f"proposals.method = 'sam' needs transformers: {EXTRA}") from None
    return transformers


@torch.inference_mode()
def _prompted(
    model: Any, processor: Any, image: NDArray[np.uint8], points_per_side: int
) -> tuple[Tensor, NDArray[np.float32]]:
    """Compute the masks of all points of the grid.

    Returns
    -------
    logits : float16 (3 * points, h, w), at the resolution of the mask decoder. All masks of a
        photograph would take 800 MB in float32.
    score : float32 (3 * points,), the predicted IoU, 0 to 1.
    """
    height, width = image.shape[:2]
    centers = (np.arange(points_per_side) + 0.5) / points_per_side
    grid = [[[x, y]] for y in (centers * height).tolist() for x in (centers * width).tolist()]
    inputs = processor(images=Image.fromarray(image), input_points=[grid], return_tensors="pt")
    device = runtime.device()
    with runtime.autocast(device):
        embedded = model.get_image_embeddings(inputs["pixel_values"].to(device))
    # In bfloat16, the coordinates of a point would be rounded to several pixels.
    embedded = [level.float() for level in embedded]
    logits, scores = [], []
    for points in inputs["input_points"].to(device).split(_POINTS_PER_BATCH, dim=1):
        found = model(image_embeddings=embedded, input_points=points)
        logits.append(found.pred_masks.flatten(0, 2).half().cpu())
        scores.append(found.iou_scores.flatten().cpu())
    return torch.cat(logits), torch.cat(scores).numpy()


def _best(logits: Tensor, score: NDArray[np.float32], nms_threshold: float) -> NDArray[np.int64]:
    """Return the indices of non-empty masks that are not suppressed, by descending score.

    Their IoU is that at the resolution of the logits.
    """
    found = np.flatnonzero((logits > 0).flatten(1).any(1).numpy())
    ranked = found[np.argsort(-score[found], kind="stable")]
    if nms_threshold == 1:
        return ranked
    return ranked[masks.nms(masks.encode((logits[ranked] > 0).numpy()), nms_threshold)]


def _full_size(processor: Any, logits: Tensor, size: tuple[int, ...]) -> list[Rle]:
    """Resize logits (n, h, w) to the photograph's `size` (height, width), and threshold them."""
    rles: list[Rle] = []
    for some in torch.split(logits, _MASKS_PER_BATCH):
        large = some[:, None].to(runtime.device()).float()
        (drawn,) = processor.post_process_masks([large], [size])
        rles += masks.encode(drawn[:, 0].cpu().numpy())
    return rles
