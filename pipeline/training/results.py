"""What a training leaves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from pipeline.artifacts.weights import write_weights
from pipeline.common.files import write_json

RESULTS = ("weights.safetensors", "metrics.json", "curves")
"""What a training leaves, by name."""


def write_results(
    folder: Path, network: torch.nn.Module, description: BaseModel, metrics: Mapping[str, Any]
) -> None:
    """Write weights.safetensors and metrics.json beside the curves of a finished training."""
    write_weights(folder / "weights.safetensors", network, description)
    write_json(folder / "metrics.json", metrics, indent=1)
