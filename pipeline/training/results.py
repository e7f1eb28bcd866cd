"""Output files of a training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from pipeline.artifacts.weights import write_weights
from pipeline.common.files import write_bytes, write_json

RESULTS = ("weights.safetensors", "metrics.json", "curves")
"""Names of the files and folders that a training writes."""


def write_empty_results(folder: Path) -> None:
    """Write empty results to the folder of a training that is not needed: DVC expects the files."""
    (folder / "curves").mkdir(exist_ok=True)
    write_bytes(folder / "weights.safetensors", b"")
    write_json(folder / "metrics.json", {})


def write_results(
    folder: Path, network: torch.nn.Module, description: BaseModel, metrics: Mapping[str, Any]
) -> None:
    """Write the weights and metrics of a finished training to the folder of its curves."""
    write_weights(folder / "weights.safetensors", network, description)
    write_json(folder / "metrics.json", metrics, indent=1)
