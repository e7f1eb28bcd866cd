"""The training loop: the same weights whatever the workers and however often it is killed."""

import errno
import os
import pickle
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.common import runtime
from pipeline.common.errors import InputError
from pipeline.training.batches import EpochSample
from pipeline.training.fit import Mean, Training, fit
from pipeline.training.schedule import Schedule
from stages.common.curves import curves


class Points:
    """Points of a plane and the sums of their coordinates, with noise drawn for each sample."""

    def __init__(self, fatal: int | None = None) -> None:
        self.fatal = fatal

    def __len__(self) -> int:
        return 10

    def __getitem__(self, sample: EpochSample):
        point = torch.from_numpy(sample.generator(0).normal(size=2)).float()
        value = point.sum() if sample.epoch != self.fatal else torch.tensor(float("nan"))
        return point, value

    def collate(self, samples):
        return tuple(torch.stack(values) for values in zip(*samples, strict=True))


class Unreadable(Points):
    def __getitem__(self, sample: EpochSample):
        if sample.item == 3:
            raise InputError("photographs/3.jpg: broken image")
        return super().__getitem__(sample)


class TooLarge(Points):
    """Points that cost the process its life, as a system short of memory takes it."""

    def __getitem__(self, sample: EpochSample):
        os.kill(os.getpid(), signal.SIGKILL)


def schedule(**changes) -> Schedule:
    values = {
        "epochs": 4,
        "batch_size": 4,
        "optimizer": "adamw",
        "learning_rate": 0.05,
        "backbone_lr_factor": 1.0,
        "weight_decay": 0.0,
        "lr_decay": "cosine",
        "warmup_steps": 2,
    }
    return Schedule.model_validate({**values, **changes})


def train(folder: Path, samples=None, **changes):
    runtime.seed_everything(0)
    # Dropout draws from torch's own generator, which a resumed run has to find as it was.
    network = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    def loss(batch):
        points, sums = batch
        return {"squared": Mean((network(points)[:, 0] - sums).square().sum(), len(sums))}

    training = Training("test", network, loss, samples or Points(), schedule(**changes), 0)
    means = fit(training, folder / "checkpoint.pt", curves(folder / "curves"))
    return network.state_dict(), means


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)


def test_it_learns(tmp_path):
    _, means = train(tmp_path / "long", epochs=30)
    _, start = train(tmp_path / "short", epochs=1)
    assert means["loss"] < 0.6 * start["loss"]


def test_the_number_of_workers_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("WISE_WORKERS", "1")
    one, _ = train(tmp_path / "one")
    monkeypatch.setenv("WISE_WORKERS", "2")
    two, _ = train(tmp_path / "two")
    assert_same(one, two)


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("WISE_CHECKPOINT_SECONDS", "0")
    whole, _ = train(tmp_path / "whole")
    with pytest.raises(InputError):
        train(tmp_path / "cut", Points(fatal=2))
    assert (tmp_path / "cut" / "checkpoint.pt").exists()
    resumed, _ = train(tmp_path / "cut")
    assert_same(whole, resumed)
    curves = [
        (tmp_path / run / "curves" / "plots" / "metrics" / "loss.tsv") for run in ("whole", "cut")
    ]
    assert curves[0].read_text() == curves[1].read_text()


def test_the_average_of_the_weights_is_what_remains(tmp_path):
    rate = {"learning_rate": 0.01, "optimizer": "sgd", "epochs": 1, "warmup_steps": 0}
    state, seen = {}, []

    def loss(batch):
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        points, sums = batch
        return {"squared": Mean((network(points)[:, 0] - sums).square().sum(), len(sums))}

    for decay in (0.0, 0.15):
        runtime.seed_everything(0)
        network = nn.Linear(2, 1)
        seen.clear()
        training = Training("test", network, loss, Points(), schedule(ema_decay=decay, **rate), 0)
        fit(training, tmp_path / f"{decay}.pt", curves(tmp_path / str(decay)))
        state[decay] = {name: value.clone() for name, value in network.state_dict().items()}
    after = [*seen[1:], state[0.0]]
    expected = seen[0]
    for step, weights in enumerate(after):  # at first with the decay 1 / 10, then 2 / 11
        decay = min(0.15, (1 + step) / (10 + step))
        expected = {n: decay * expected[n] + (1 - decay) * weights[n] for n in weights}
    torch.testing.assert_close(state[0.15], expected)
    assert not torch.equal(state[0.15]["weight"], state[0.0]["weight"])


def test_a_killed_run_goes_on_to_the_same_average(tmp_path, monkeypatch):
    monkeypatch.setenv("WISE_CHECKPOINT_SECONDS", "0")
    whole, _ = train(tmp_path / "whole", ema_decay=0.9)
    with pytest.raises(InputError):
        train(tmp_path / "cut", Points(fatal=2), ema_decay=0.9)
    resumed, _ = train(tmp_path / "cut", ema_decay=0.9)
    finished, _ = train(tmp_path / "cut", ema_decay=0.9)  # from its last checkpoint
    assert_same(whole, resumed)
    assert_same(whole, finished)


def test_a_full_disk_loses_no_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("WISE_CHECKPOINT_SECONDS", "0")
    whole, _ = train(tmp_path / "whole")
    room = iter(range(4))
    write = Path.write_bytes

    def write_while_there_is_room(path, content):
        if next(room, None) is None:
            write(path, content[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    with monkeypatch.context() as full:
        full.setattr(Path, "write_bytes", write_while_there_is_room)
        with pytest.raises(InputError, match=r"checkpoint\.pt: .*not saved \(No space left.*room"):
            train(tmp_path / "cut")
    assert not list((tmp_path / "cut").glob("*.unfinished"))
    kept = torch.load(tmp_path / "cut" / "checkpoint.pt", weights_only=True)
    assert kept["step"] == 4
    resumed, _ = train(tmp_path / "cut")
    assert_same(whole, resumed)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", pickle.dumps({"step": 1})])
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"checkpoint\.pt: damaged \(.*\); remove it and run"):
        train(tmp_path)


@pytest.mark.parametrize("wanted", ["often", "-1", "nan"])
def test_what_is_no_time_between_checkpoints_is_named(monkeypatch, wanted):
    monkeypatch.setenv("WISE_CHECKPOINT_SECONDS", wanted)
    with pytest.raises(
        InputError, match=f"WISE_CHECKPOINT_SECONDS={wanted}: a number of at least 0"
    ):
        runtime.seconds_between_checkpoints()


def test_a_loss_that_is_not_finite_ends_training(tmp_path):
    with pytest.raises(InputError, match="loss of test is no longer finite at step 1; lower"):
        train(tmp_path, Points(fatal=0))


def test_what_cannot_be_read_is_said_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"^photographs/3\.jpg: broken image$"):
        train(tmp_path, Unreadable())


def test_a_loader_that_is_killed_is_said_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"^a process that prepares batches was killed.*WORKERS=1"):
        train(tmp_path, TooLarge())


def test_a_repository_without_a_commit_ends_training(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="a git repository needs a first commit; make one with"):
        train(tmp_path)


def test_pretrained_layers_learn_at_their_own_rate(tmp_path):
    network = nn.ModuleDict({"backbone": nn.Linear(2, 2), "head": nn.Linear(2, 1)})
    before = {name: value.clone() for name, value in network.state_dict().items()}

    def loss(batch):
        points, sums = batch
        out = network["head"](network["backbone"](points))[:, 0]
        return {"squared": Mean((out - sums).square().sum(), len(sums))}

    frozen = schedule(backbone_lr_factor=0.0, optimizer="sgd")
    training = Training("test", network, loss, Points(), frozen, 0)
    fit(training, tmp_path / "checkpoint.pt", curves(tmp_path / "curves"))
    after = network.state_dict()
    assert torch.equal(after["backbone.weight"], before["backbone.weight"])
    assert not torch.equal(after["head.weight"], before["head.weight"])


def test_a_factor_of_0_freezes_the_backbone_with_its_statistics(tmp_path):
    backbone = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    network = nn.ModuleDict({"backbone": backbone, "head": nn.Linear(2, 1)})
    before = {name: value.clone() for name, value in network.state_dict().items()}

    def loss(batch):
        points, sums = batch
        features = network["backbone"](points)
        assert not features.requires_grad
        return {"squared": Mean((network["head"](features)[:, 0] - sums).square().sum(), len(sums))}

    frozen = schedule(backbone_lr_factor=0.0, weight_decay=0.1)
    training = Training("test", network, loss, Points(), frozen, 0)
    fit(training, tmp_path / "checkpoint.pt", curves(tmp_path / "curves"))
    after = network.state_dict()
    for name, value in before.items():
        assert torch.equal(after[name], value) == name.startswith("backbone."), name
