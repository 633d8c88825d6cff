"""Runs commands in this process."""

from collections.abc import Callable


def run_in_process(command: Callable, *arguments: str) -> int:
    """Runs a command such as `cli.train` here and returns its exit status; the parsing of the flags is included."""
    try:
        command(arguments)
    except SystemExit as error:
        return error.code or 0
    return 0
