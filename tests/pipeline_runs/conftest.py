"""One project in which every per-image stage has run."""

import pytest

from tests.support.running import run_here
from tests.support.tiny import IMAGES, STAGES, write_project


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """A tiny project in which every per-image stage has run to its end."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_project(folder, IMAGES)
    for stage in STAGES:
        run_here(folder, stage)
    return folder
