"""A map over the workers of a Dask cluster: the order, the errors, and a bound on open tasks."""

import os
import time
from concurrent.futures import CancelledError, Future
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from distributed import LocalCluster
from PIL import Image

from pipeline.artifacts.weights import write_weights
from pipeline.classifier.network import Prm
from pipeline.classifier.peaks import PeaksParameters, TaggedPhotograph, peaks_of
from pipeline.common.errors import InputError
from pipeline.execution import cluster as by_dask
from pipeline.execution.cluster import IMAGES_PER_TASK, cluster_map
from tests.support.tiny import PRM

PARAMETERS = PeaksParameters(
    min_relative_height=0.5, response="peak", response_stride=4, scales=(), flip=False
)


def process_of(item):
    return os.getpid(), item


def refuse_eleven(item):
    if item == 11:
        raise InputError("image 11: broken")
    return item


def vanish_once(marker):
    if not marker.exists():
        marker.touch()
        os._exit(1)
    return "done"


def vanish(_):
    os._exit(1)


def test_results_come_in_order_from_several_workers(cluster):
    results = list(cluster_map(process_of, range(100), cluster.scheduler_address))
    assert [item for _, item in results] == list(range(100))
    assert len({process for process, _ in results}) == 2


def test_few_items_are_under_way(cluster):
    taken = []

    def items():
        for item in range(1000):
            taken.append(item)
            yield item

    results = cluster_map(process_of, items(), cluster.scheduler_address)
    next(results)
    assert len(taken) <= 4 * IMAGES_PER_TASK
    results.close()


def test_an_error_names_its_item_and_what_came_before_is_there(cluster):
    results = cluster_map(refuse_eleven, range(40), cluster.scheduler_address)
    assert [next(results) for _ in range(IMAGES_PER_TASK)] == list(range(IMAGES_PER_TASK))
    with pytest.raises(InputError, match="image 11: broken"):
        next(results)


def test_a_worker_forgets_what_an_earlier_run_left_in_its_caches(cluster, tmp_path):
    find = partial(peaks_of, tmp_path / "weights.safetensors", PARAMETERS)
    Image.new("RGB", (64, 64), "red").save(tmp_path / "image.png")
    heights = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        write_weights(tmp_path / "weights.safetensors", Prm(PRM, "none"), PRM)
        items = [[TaggedPhotograph(tmp_path / "image.png", [0])]] * 20
        found = list(cluster_map(find, items, cluster.scheduler_address))
        (height,) = {float(peaks.value.max()) for (peaks,) in found}
        heights.append(height)
    assert heights[0] != heights[1]


def test_the_task_of_a_vanished_worker_is_done_by_another(cluster, tmp_path):
    found = list(cluster_map(vanish_once, [tmp_path / "marker"], cluster.scheduler_address))
    assert found == ["done"]


def test_a_task_that_no_worker_survives_is_said(cluster, monkeypatch):
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)  # as after several
    message = "a task lost its worker repeatedly.*start fewer workers per machine"
    with pytest.raises(InputError, match=message):
        list(cluster_map(vanish, range(3), cluster.scheduler_address))


def test_a_scheduler_that_goes_is_said(monkeypatch):
    monkeypatch.setattr(by_dask, "SECONDS_TO_CONNECT", 1)  # and to connect again
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as other:
        results = cluster_map(process_of, range(100), other.scheduler_address)
        next(results)
        other.close()
        with pytest.raises(InputError, match="connection to the scheduler was lost; finished"):
            list(results)


def test_a_task_that_never_ends_is_not_waited_for_without_a_scheduler():
    lost = SimpleNamespace(status="closed")
    with pytest.raises(CancelledError):
        by_dask._result(lost, Future())


def test_workers_of_other_code_are_refused(cluster, monkeypatch):
    monkeypatch.setattr(by_dask, "_CODE", "another")
    with pytest.raises(InputError, match="Dask workers run a different version of the code"):
        list(cluster_map(process_of, range(3), cluster.scheduler_address))


def test_no_scheduler_is_said_quickly(monkeypatch):
    monkeypatch.setattr(by_dask, "SECONDS_TO_CONNECT", 1)
    start = time.monotonic()
    message = r"WISE_DASK=tcp://127.0.0.1:1: no Dask scheduler responds"
    with pytest.raises(InputError, match=message):
        list(cluster_map(process_of, range(3), "tcp://127.0.0.1:1"))
    assert time.monotonic() - start < 20


def test_an_address_that_is_none_is_said():
    with pytest.raises(InputError, match=r"WISE_DASK=nowhere"):
        list(cluster_map(process_of, range(3), "nowhere:"))
