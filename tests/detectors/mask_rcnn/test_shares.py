"""Gradients of several processes, with photographs of several shapes."""

from functools import partial
from threading import Barrier, Lock, Thread, local

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image

from pipeline.artifacts.split import Photograph, Split
from pipeline.detectors.mask_rcnn.training import MaskRcnnParameters, detector_training
from pipeline.training import fit, schedule
from pipeline.training.batches import make_loader
from pipeline.training.distributed import Processes
from tests.support.parameters import tiny_parameters
from wise.estimate import InTheMiddle

# Height and width. Of two or four processes none would pad its share as the whole batch is padded.
SHAPES = ((48, 64), (64, 48), (96, 40), (48, 90))


class TakingTurns:
    """Threads in place of processes, one at a time: they share torch's random generator."""

    def __init__(self, count):
        self._arrived, self._turn = Barrier(count), Lock()
        self._given, self._mine = [None] * count, local()

    def run(self, rank, work):
        self._mine.rank = rank
        with self._turn:
            try:
                work()
            except BaseException:
                self._arrived.abort()
                raise

    def all_reduce(self, values):
        self._given[self._mine.rank] = values.clone()
        self._wait()
        total = torch.stack(self._given).sum(0)
        self._wait()
        values.copy_(total)

    def _wait(self):
        self._turn.release()
        try:
            self._arrived.wait()
        finally:
            self._turn.acquire()


@pytest.fixture
def split(tmp_path):
    rng = np.random.default_rng(0)
    photographs = []
    for number, (height, width) in enumerate(SHAPES):
        file = f"{number}.png"
        Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)).save(tmp_path / file)
        photographs.append(
            Photograph(id=file, file=file, height=height, width=width, sha256="", tags=("cat",))
        )
    return Split(root=str(tmp_path), classes=("cat",), photographs=tuple(photographs))


def gradients(split, count):
    """The gradients of every process after a step."""
    values = tiny_parameters()["mask_rcnn"]
    values["weights"] = "none"
    values["architecture"] |= {"min_size": 48, "max_size": 96}
    values["schedule"] |= {"batch_size": len(SHAPES), "optimizer": "sgd", "max_grad_norm": 0.0}
    parameters = MaskRcnnParameters.parse(values, "mask_rcnn")
    together, found = TakingTurns(count), {}

    def work(rank, training):
        processes, settings = Processes(rank, count), training.schedule
        optimizer = schedule.make_optimizer(training.network, settings)
        rates = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.rate_factor(settings, 1))
        run = fit._Run(training.network.train(), optimizer, rates, processes, 1, ema_decay=0.0)
        loader = make_loader(training.samples, settings, 0, 0, processes, None)
        (share,) = loader.batch_sampler
        batch = training.samples.collate([training.samples[sample] for sample in share])
        fit._step(run, training.loss, 0.0, 0, batch)
        found[rank] = {
            name: p.grad for name, p in run.network.named_parameters() if p.requires_grad
        }

    threads = []
    for rank in range(count):
        training = detector_training("test", split, InTheMiddle(split), parameters)
        threads.append(Thread(target=together.run, args=(rank, partial(work, rank, training))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dist, "all_reduce", together.all_reduce)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return [found[rank] for rank in range(count)]


@pytest.mark.parametrize("count", [2, 4])
def test_gradients_of_several_processes_are_those_of_one(split, count):
    (expected,) = gradients(split, 1)
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for got in gradients(split, count):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-5 * largest)
