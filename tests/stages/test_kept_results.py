"""Results kept in the scratch folder: plain JSON, the same when loaded as when computed."""

import json
import math
import pickle

import numpy as np
import pytest

from pipeline.evaluation.by_size import Overlaps
from pipeline.evaluation.intervals import Estimates
from stages.common.scratch import load_or_compute


def test_a_result_is_kept_as_json_and_loaded_as_it_was_computed(tmp_path):
    rng = np.random.default_rng(0)
    estimates = Estimates({"wise": rng.random(3)}, {"wise": rng.random((3, 5))})
    estimates.resampled["wise"][1, 2] = math.nan
    overlaps = Overlaps(rng.random(4), rng.random(4), np.arange(4))
    computed = []

    def compute():
        computed.append(1)
        return {"metrics": {"a": 0.1}, "estimates": estimates, "overlaps": overlaps}

    for _ in range(2):
        result = load_or_compute(tmp_path, "name", compute)
        assert result["metrics"] == {"a": 0.1}
        loaded = Estimates.of_lists(**result["estimates"])
        np.testing.assert_array_equal(loaded.value["wise"], estimates.value["wise"])
        np.testing.assert_array_equal(loaded.resampled["wise"], estimates.resampled["wise"])
        for name, array in vars(Overlaps.of_lists(**result["overlaps"])).items():
            np.testing.assert_array_equal(array, getattr(overlaps, name))
            assert array.dtype == getattr(overlaps, name).dtype
    assert computed == [1]
    (kept,) = (tmp_path / ".results").iterdir()
    json.loads(kept.read_bytes())  # no code in it could be run


@pytest.mark.parametrize("content", [b"", b'{"a": ', pickle.dumps({"a": 1})])
def test_what_is_no_result_is_computed_again(tmp_path, content):
    (tmp_path / ".results").mkdir()
    (tmp_path / ".results" / "name.json").write_bytes(content)
    for function in (lambda: {"a": 2}, pytest.fail):
        assert load_or_compute(tmp_path, "name", function) == {"a": 2}
