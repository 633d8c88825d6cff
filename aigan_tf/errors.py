"""What ends a run early: what a user got wrong, a training that went wrong, a request to stop; and paths."""

import functools
import re


class InputError(ValueError):
    """Something the user gave (a flag, a file, a folder, a model) cannot be used.

    The message is one line that says what was received, what is expected and how to fix it;
    the command line prints it alone, without a traceback, and exits with status 2.

    Args:
        message: that line. Line breaks and whatever else cannot be printed, in what was received, are escaped.
    """

    def __init__(self, message: str):
        shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
        super().__init__("".join(shown))


def graph_refusal(message: str | None) -> str:
    """Returns why a SavedModel refuses its inputs, from the message of TensorFlow's error, which also says where in the graph."""
    lines = [line.strip() for line in (message or "").partition("[[{{node")[0].strip().splitlines()]
    cause = lines[-1].rpartition("assertion failed: ")[-1] if lines else "no reason given"
    return re.sub(r"^\[(.*)\] \[(.*)\]$", r"\1 \2", cause)  # what is wrong, and the values


class DivergedError(ArithmeticError):
    """A loss is no finite number any more, so that training cannot go on; the message is one line that says which."""


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM: as Ctrl-C, but nobody is watching."""


say = functools.partial(print, flush=True)  # at once, also into a log file
