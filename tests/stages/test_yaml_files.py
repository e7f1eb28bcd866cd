"""params.yaml: what is refused, in one line that names the key, and within a second."""

import os
import time
import warnings

import pytest

from pipeline.common.errors import InputError
from stages.common.yaml_files import read_yaml


def read(folder, content):
    path = folder / "params.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_yaml(path)


BOMB = "a0: &a0 x\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {b: 2021-02-30}", r"a\.b: a date"),
        ("a: {b: 2021-02-03}", r"a\.b: a date"),
        ("a: {b: " + "9" * 5000 + "}", r"a\.b: '9+\.\.\.' cannot be read as int"),
        ("a: {b: " + "9" * 40 + "}", r"a\.b: 9+\.\.\.: the largest number is"),
        ("a: {b: 0x" + "f" * 5000 + "}", r"a\.b: 0xf+\.\.\.: the largest number is"),
        ("a: {b: !!float y}", r"a\.b: 'y' cannot be read as float"),
        ("a: {b: [1, !!int x]}", r"a\.b\.1: 'x' cannot be read as int"),
        ("a: {b: !!binary aGk=}", r"a\.b: binary"),
        ("a: {b: !!set {c}}", r"a\.b: set"),
        ("a: {b: !!omap [c: 1]}", r"a\.b: omap"),
        ("a: {b: !!python/object/new:os.system [ls]}", r"a\.b: python/object/new:os\.system"),
        ("a: {b: !own 1}", r"a\.b: !own"),
        ("a: {b: 1, c: 2, b: 3}", r"a\.b: there twice"),
        ("a: 1\nb: 2\na: 3", r"a: there twice \(line 3\)"),
        ("a: {1: 2}", r"a\.1: a key must be text"),
        ("a: {true: 2}", r"a\.true: a key must be text"),
        ("a: {? [x] : 2}", r"a: a list or a mapping is no key"),
        ("a: &x [*x]", r"alias"),
        (BOMB, r"alias"),
        ("a: &x {b: 1}\nc: {<<: *x}", r"alias"),
        ("a: " + "[" * 100_000, r"more than 64 KiB"),
        ("a: " + "[" * 10_000, r"nested more than 16 deep"),
        ("- " * 1000 + "x", r"nested more than 16 deep"),
        ('a: {b: "\\ud800"}', r"a\.b: .*character"),
        ('a: "\\UFFFFFFFF"', r"not YAML"),
        ("a: {b: 1", r"not YAML: .*line 1"),
        ("a: 1\n---\nb: 2", r"not YAML: .*document"),
        ("%YAML 3.0\n---\na: 1", r"not YAML"),
        ("a: \x07", r"not YAML"),
        ("", r"a mapping of stages is needed"),
        ("[1]", r"a mapping of stages is needed"),
        ("a: 1".encode("utf-16"), r"not UTF-8"),
        ("a: é".encode("latin-1"), r"not UTF-8"),
    ],
)
def test_what_is_refused_is_named_within_a_second(tmp_path, text, message):
    begun = time.perf_counter()
    with pytest.raises(InputError, match=message) as refusal:
        read(tmp_path, text)
    assert time.perf_counter() - begun < 1
    assert str(refusal.value).startswith(f"{tmp_path}/params.yaml: ")
    assert len(str(refusal.value).splitlines()) == 1


def test_no_file_and_no_regular_file(tmp_path):
    with pytest.raises(InputError, match=r"missing; run in the folder of dvc\.yaml"):
        read_yaml(tmp_path / "params.yaml")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory"):
        read_yaml(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a regular file"):
        read_yaml(tmp_path / "pipe")


def test_nothing_is_printed_of_an_anchor_that_is_there_twice(tmp_path):
    with warnings.catch_warnings(record=True) as said:
        assert read(tmp_path, "a: &x 1\nb: &x 2") == {"a": 1, "b": 2}
    assert not said


def test_values_are_those_that_dvc_reads(tmp_path):
    """YAML 1.2, unlike PyYAML: DVC writes 1e-05 for -S, and tracks 'on' as a text."""
    text = "a: {b: 1e-05, c: on, d: 1:30, e: 010, f: .5, g: ~, h: [x, true], i: '1'}"
    expected = {"b": 1e-05, "c": "on", "d": "1:30", "e": 10, "f": 0.5, "g": None}
    assert read(tmp_path, text) == {"a": {**expected, "h": ["x", True], "i": "1"}}
