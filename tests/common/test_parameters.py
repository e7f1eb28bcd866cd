"""What a parameter model refuses, and what it says."""

from collections.abc import Mapping
from typing import ClassVar

import pytest
from pydantic import Field, model_validator

from pipeline.common.errors import InputError
from pipeline.common.parameters import Parameters
from pipeline.detectors.predictions import PredictionsParameters
from pipeline.pseudo_masks.sampler import SamplerParameters


class Inner(Parameters):
    renamed: ClassVar[Mapping[str, str]] = {"speed": "rate"}

    rate: float = Field(gt=0)


class Outer(Parameters):
    count: int
    names: tuple[str, ...]
    inner: Inner


GOOD = {"count": 1, "names": ["a"], "inner": {"rate": 1}}


def test_yaml_lists_and_whole_numbers_are_taken():
    parsed = Outer.parse(GOOD, "stage")
    assert parsed.names == ("a",)
    assert parsed.inner.rate == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cuont": 2}, r"stage\.cuont: unknown parameter; did you mean count\? allowed: count, na"),
        ({"inner": {"rate": 1, "rat": 2}}, r"stage\.inner\.rat: unknown.*allowed: rate"),
        ({"inner": {"speed": 1}}, r"stage\.inner\.speed: now rate"),
        ({"inner": {}}, r"stage\.inner\.rate: missing"),
        ({"count": "1"}, r"stage\.count = '1': .*valid integer"),
        ({"count": True}, r"stage\.count = True: .*valid integer"),
        ({"names": "a"}, r"stage\.names = 'a': .*valid (tuple|array)"),
        ({"inner": {"rate": 0}}, r"stage\.inner\.rate = 0: .*greater than 0"),
        ({"inner": {"rate": float("nan")}}, r"stage\.inner\.rate = nan: .*finite"),
    ],
)
def test_what_is_wrong_is_named(changes, message):
    with pytest.raises(InputError, match=message) as refusal:
        Outer.parse({**GOOD, **changes}, "stage")
    assert "\n" not in str(refusal.value)


def test_no_section_at_all():
    with pytest.raises(InputError, match="stage: a mapping of parameters is needed, not None"):
        Outer.parse(None, "stage")


@pytest.mark.parametrize(
    ("model", "old", "new"),
    [
        (SamplerParameters, "visits", "draws_per_peak"),
        (PredictionsParameters, "score_threshold", "min_score"),
    ],
)
def test_an_old_key_is_answered_with_the_new_one(model, old, new):
    with pytest.raises(InputError, match=rf"stage\.{old}: now {new}"):
        model.parse({old: 1}, "stage")


class Pair(Parameters):
    low: int
    high: int

    @model_validator(mode="after")
    def _ascending(self):
        if self.low > self.high:
            raise ValueError("Low is above high")
        return self


class Holder(Parameters):
    pair: Pair


def test_what_is_wrong_with_a_section_does_not_repeat_it():
    with pytest.raises(InputError) as refusal:
        Holder.parse({"pair": {"low": 2, "high": 1}}, "stage")
    assert str(refusal.value) == "stage.pair: low is above high"
    with pytest.raises(InputError) as refusal:
        Pair.parse({"low": 2, "high": 1}, "stage")
    assert str(refusal.value) == "stage: low is above high"
