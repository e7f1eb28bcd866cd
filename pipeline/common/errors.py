"""The exception for errors that a user can fix, and what it quotes of others."""

import unicodedata

MAX_LENGTH = 1000  # of a message: names and values of a hostile file can have any length


class InputError(Exception):
    """Invalid user input. The message names the input and says what is allowed.

    It is one line, whatever names it quotes: see `one_line`.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


def one_line(text: str) -> str:
    """Return a text that quotes others as one line of limited length, for the terminal.

    Line breaks, control characters and bytes of file names that are no UTF-8 become escapes.
    """
    text = _short(text)  # first: to escape a megabyte would take a second
    return _short("".join(ascii(c)[1:-1] if _breaks(c) else c for c in text))


def is_one_line(text: str) -> bool:
    """Whether `one_line` escapes nothing in a text."""
    return not any(map(_breaks, text))


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the name of its type if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _short(text: str) -> str:
    half = MAX_LENGTH // 2
    return text if len(text) <= MAX_LENGTH else f"{text[:half]} ... {text[-half:]}"


def _breaks(character: str) -> bool:
    """Whether a character would break a line, control the terminal, or be no text at all."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
