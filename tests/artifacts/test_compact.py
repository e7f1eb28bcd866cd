"""Compact weights: what is stored how, how far it may differ, and that it loads like any other."""

import pytest
import torch
from pydantic import BaseModel
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.artifacts.compact import LARGE, LEVELS, expand, quantize, write_compact
from pipeline.artifacts.weights import load_weights, read_description, write_weights
from pipeline.common.errors import InputError


class Widths(BaseModel):
    """A description of a network."""

    wide: int


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(LARGE // 64, 256), nn.BatchNorm1d(256), nn.Linear(256, 8))


def test_a_number_is_off_by_at_most_half_a_scale():
    values = torch.randn(16, 8, 3, 3) * torch.logspace(-6, 3, 16)[:, None, None, None]
    stored, scale = quantize(values)
    assert stored.dtype == torch.int8
    assert stored.abs().amax((1, 2, 3)).eq(LEVELS).all()  # every channel uses its range
    assert ((stored * scale - values).abs() <= scale * (0.5 + 1e-5)).all()


def test_a_channel_of_zeros_stays_zero():
    stored, scale = quantize(torch.zeros(2, 4))
    assert (stored * scale).eq(0).all()


def test_compact_weights_load_like_others(tmp_path):
    trained = network()
    trained[1].running_var.fill_(1e5)  # more than half precision holds
    write_weights(tmp_path / "all.safetensors", trained, Widths(wide=256))
    write_compact(tmp_path / "all.safetensors", tmp_path / "compact.safetensors")
    assert read_description(tmp_path / "compact.safetensors", Widths) == Widths(wide=256)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("compact", "all")]
    assert sizes[0] < 0.3 * sizes[1]
    loaded = network()
    load_weights(tmp_path / "compact.safetensors", loaded)
    of_trained, of_loaded = trained.state_dict(), loaded.state_dict()
    assert of_loaded["0.weight"].dtype == torch.float32
    largest = of_trained["0.weight"].abs().amax(1, keepdim=True)
    assert ((of_loaded["0.weight"] - of_trained["0.weight"]).abs() <= largest / 250).all()
    assert torch.equal(of_loaded["2.weight"], of_trained["2.weight"].half().float())
    for name in ("0.bias", "1.running_var", "1.num_batches_tracked"):
        assert torch.equal(of_loaded[name], of_trained[name])


def test_a_file_that_is_not_compact_is_not_changed():
    state = {"weight": torch.ones(2, 2), "bias": torch.ones(2)}
    assert expand(state) == state


def test_scales_that_would_make_a_matrix_far_larger(tmp_path):
    state = {"0.weight": torch.ones(10**6, 1, dtype=torch.int8)}
    save_file(state | {"0.weight:scale": torch.ones(1, 10**6)}, tmp_path / "w")
    with pytest.raises(InputError, match=r"/w: .*0\.weight:scale is not one scale"):
        load_weights(tmp_path / "w", network())


@pytest.mark.parametrize("missing", ["0.weight", "0.weight:scale"])
def test_a_compact_file_without_a_tensor_is_refused(tmp_path, missing):
    write_weights(tmp_path / "all.safetensors", network(), Widths(wide=256))
    write_compact(tmp_path / "all.safetensors", tmp_path / "compact.safetensors")
    state = load_file(tmp_path / "compact.safetensors")
    del state[missing]
    save_file(state, tmp_path / "broken.safetensors")
    with pytest.raises(InputError, match=r"broken\.safetensors: "):
        load_weights(tmp_path / "broken.safetensors", network())
