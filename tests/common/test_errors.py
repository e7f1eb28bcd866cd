"""A message is one line, whatever names it quotes."""

import pickle

import pytest

from pipeline.common.errors import MAX_LENGTH, InputError

OTHER_SCRIPTS = "chat\xa0noir, \u732b, \U0001f408\u200d\u2b1b"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("a\nb.jpg: broken", r"a\nb.jpg: broken"),
        ("a\r\x1b[2Jb\x85c\u2028d", r"a\r\x1b[2Jb\x85c\u2028d"),
        ("caf\udce9.jpg", r"caf\udce9.jpg"),  # a byte that is no UTF-8, as Python reads names
        (OTHER_SCRIPTS, OTHER_SCRIPTS),
    ],
)
def test_what_would_break_the_line_is_escaped(message, line):
    error = InputError(message)
    assert str(error) == line
    assert len(line.splitlines()) == 1
    assert str(pickle.loads(pickle.dumps(error))) == line  # as it comes from a worker


def test_a_message_has_an_end():
    assert len(str(InputError("x" * 10**6))) < MAX_LENGTH + 10
