"""The machine as every test finds it, here and in the processes it starts; one finished shelf."""

import os

# Before torch is imported: threads of several processes on the same cores wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
# Before the server is started that worker processes are forked from, with its environment.
os.environ.setdefault("WISE_DEVICE", "cpu")

import pytest
from running import IMAGES, run_here

from benchmarks.tiny import STAGES, write_project

# They go first, so that two processes that share the files end together.
LONGEST = ("test_repro.py", "test_resume_training.py", "test_distributed.py", "test_dask.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """A tiny project in which every per-image stage has run to its end."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_project(folder, IMAGES)
    for stage in STAGES:
        run_here(folder, stage)
    return folder
