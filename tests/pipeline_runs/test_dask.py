"""The per-image stages on a Dask cluster."""

import os
import signal

from pipeline.artifacts.split import Split
from pipeline.common.images import read_image
from pipeline.execution.photographs import fill
from tests.support.running import copy_without, run_here, shelf
from tests.support.tiny import STAGES, write_project

PHOTOGRAPHS = 10_000
KILLED_AFTER = range(1_000, 9_000, 1_500)  # results


def test_a_whole_shelf_of_the_same_bytes(undisturbed, tmp_path, cluster):
    folder = copy_without(undisturbed, tmp_path / "cluster", *STAGES)
    for stage in STAGES:
        run_here(folder, stage, WISE_DASK=cluster.scheduler_address)
        assert len(shelf(folder, stage)) > 3
    assert shelf(folder, *STAGES) == shelf(undisturbed, *STAGES)


def mean_of(photograph):
    """The id of a photograph and the mean of its pixels."""
    image_id, path = photograph
    return image_id, float(read_image(path).mean())


class Store:
    """A store in memory, which kills a worker of a cluster now and then."""

    finished = 0

    def __init__(self, cluster):
        self.added, self._cluster = [], cluster

    def add(self, image_id, height, width, result):
        self.added.append((image_id, result))
        if len(self.added) in KILLED_AFTER:
            busiest = max(
                self._cluster.scheduler.workers.values(), key=lambda worker: len(worker.processing)
            )
            os.kill(self._cluster.workers[busiest.name].pid, signal.SIGKILL)


def test_no_result_is_lost_or_doubled_when_workers_are_killed(tmp_path, cluster, monkeypatch):
    write_project(tmp_path / "project", PHOTOGRAPHS)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("WISE_DASK", cluster.scheduler_address)
    photographs = [
        photograph
        for name in ("train", "val")
        for photograph in Split.read(tmp_path / f"project/data/dataset/{name}.json").photographs
    ]
    store, folder = Store(cluster), tmp_path / "project" / "photographs"
    fill(store, mean_of, lambda one: (one.id, folder / one.file), photographs, "means")
    of_file = {file.name: float(read_image(file).mean()) for file in folder.iterdir()}
    assert store.added == [(one.id, (one.id, of_file[one.file])) for one in photographs]
