"""Class names in tables: no formula for a spreadsheet, no HTML and no cell too many in Markdown."""

import csv

from pipeline.evaluation import tables

NAMES = ("=1+1", "-cat", "+dog", "@ox", "<script>", "a|b", "cat")


def test_no_name_is_a_formula(tmp_path):
    per_class = {name: {"mAP": -0.5} for name in NAMES}
    tables.write_per_class(tmp_path / "t.csv", {"wise": {"wise": {"per_class": per_class}}})
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert [row["class"].lstrip("'") for row in rows] == list(NAMES)
    assert not [row["class"] for row in rows if row["class"][0] in "=+-@"]
    assert {row["mAP"] for row in rows} == {"-0.5"}


def test_no_name_is_html_or_another_cell():
    text = tables.table([{"class": name, "mAP": 1.0} for name in NAMES])
    assert "<" not in text
    assert all(line.replace("\\|", "").count("|") == 3 for line in text.splitlines() if line)
