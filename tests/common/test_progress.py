import io
import time

import pytest

from pipeline.common import progress


class Clock:
    """A clock that goes on by what each item takes."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def items(self, seconds):
        for number, taken in enumerate(seconds):
            self.now += taken
            yield number


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def test_without_a_terminal_lines_tell_how_long_it_will_take(clock, capsys):
    # SplitResults a minute until the first item is there, then one every ten seconds.
    seconds = [30, *(19 * [10])]
    assert list(progress.track(clock.items(seconds), 20, "peaks")) == list(range(20))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "peaks: 2/20, 3 min 00 s remaining"
    assert lines[1] == "peaks: 4/20, 2 min 40 s remaining"
    assert lines[-1] == "peaks: 20/20 in 3 min 40 s"


def test_nothing_to_do_is_said_too(clock, capsys):
    assert list(progress.track([], 0, "peaks")) == []
    assert capsys.readouterr().err == "peaks: 0/0 in 0 s\n"


def test_a_terminal_gets_a_bar(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert list(progress.track(iter("abc"), 3, "peaks")) == ["a", "b", "c"]
    assert "peaks" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599, "59 min 59 s"),
        (7805, "2 h 10 min"),
    ],
)
def test_durations_are_said_as_a_person_would(seconds, said):
    assert progress.duration(seconds) == said
