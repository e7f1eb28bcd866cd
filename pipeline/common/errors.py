"""The exception for errors that a user can fix."""


class InputError(Exception):
    """Invalid user input. The message names the input and says what is allowed."""
