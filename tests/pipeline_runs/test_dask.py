"""The per-image stages on a Dask cluster."""

from tests.support.running import copy_without, run_here, shelf
from tests.support.tiny import STAGES


def test_a_whole_shelf_of_the_same_bytes(undisturbed, tmp_path, cluster):
    folder = copy_without(undisturbed, tmp_path / "cluster", *STAGES)
    for stage in STAGES:
        run_here(folder, stage, WISE_DASK=cluster.scheduler_address)
        assert len(shelf(folder, stage)) > 3
    assert shelf(folder, *STAGES) == shelf(undisturbed, *STAGES)
