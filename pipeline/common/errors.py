"""The one exception that a person is meant to read."""


class InputError(Exception):
    """Something a user gave cannot be used; the message names it and says what is allowed."""
