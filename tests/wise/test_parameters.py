from pydantic import Field

from pipeline.common.parameters import Parameters
from tests.support import ROOT
from wise.parameters import parameter_table, reference


class Inner(Parameters):
    rate: float = Field(gt=0, lt=1, description="how fast")


class Outer(Parameters):
    side: int = Field(ge=32, multiple_of=32, description="in pixels")
    inner: Inner


def test_a_table_says_default_range_and_effect():
    lines = parameter_table(Outer, {"side": 64, "inner": {"rate": 0.5}}).splitlines()
    assert lines[2] == "| `side` | `64` | integer >= 32 and a multiple of 32 | in pixels |"
    assert lines[3] == "| `inner.rate` | `0.5` | number > 0 and < 1 | how fast |"


def test_the_document_is_up_to_date():
    """After a changed parameter: wise parameters > docs/parameters.md."""
    assert (ROOT / "docs" / "parameters.md").read_text() == reference(ROOT)


def test_every_parameter_says_what_it_does():
    rows = [line for line in reference(ROOT).splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert [row for row in rows if row.rstrip(" |").count(" | ") != 3] == []
