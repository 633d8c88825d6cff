"""The one error a user can cause and mend."""


class InputError(ValueError):
    """Something the user gave (a flag, a file, a folder, a model) cannot be used.

    The message is one line that says what was received, what is expected and how to fix it;
    the command line prints it alone, without a traceback, and exits with status 2.
    """
