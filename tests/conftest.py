"""The machine as every test finds it, here and in the processes it starts."""

import os

import pytest

# Before torch is imported: threads of several processes on the same cores wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
# Before the server is started that worker processes are forked from, with its environment.
os.environ.setdefault("WISE_DEVICE", "cpu")


def pytest_collection_modifyitems(items):
    """The longest go first, so that two processes that share the files end together."""
    items.sort(key=lambda item: item.path.parent.name != "pipeline_runs")


@pytest.fixture(scope="module")
def cluster():
    """Two workers with one thread each, that find `pipeline` as an installed worker does."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0
    ) as started:
        yield started
