"""What a user gives and can get wrong: the one error for it, and paths."""

import os
import pathlib


class InputError(ValueError):
    """Something the user gave (a flag, a file, a folder, a model) cannot be used.

    The message is one line that says what was received, what is expected and how to fix it;
    the command line prints it alone, without a traceback, and exits with status 2.
    """


def user_path(path: str | os.PathLike) -> pathlib.Path:
    """Returns a path as the user meant it, `~` and `~name` replaced by the home folder.

    Raises:
        InputError: there is no user of that name.
    """
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"path {str(path)!r} names a user without a home folder; expected a path: give it in full"
        ) from error
