"""The commands in this process, on arguments of their own."""

from collections.abc import Callable


def run_in_process(command: Callable, *arguments: str) -> int:
    """Runs a command such as `cli.train` here and returns its exit status; the parsing of the flags is part of it."""
    try:
        command(arguments)
    except SystemExit as error:
        return error.code or 0
    return 0
