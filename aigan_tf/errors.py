"""Errors that end a run, as data. Each interface words it: `--epsilon=8` on the command line, `epsilon=8` in Python."""

import contextlib
import contextvars
import re
import sys
from collections.abc import Callable, Iterator

_MAX_SHOWN = 300  # characters of what was received

_quiet = contextvars.ContextVar("quiet", default=False)


def say(text: str) -> None:
    """Prints progress, unless it is not wanted; as `warn`."""
    if not is_quiet():
        warn(text)


def warn(text: str) -> None:
    """Prints a line, flushed so that a log file shows it at once; never raises.

    What cannot be encoded is escaped. What a closed or full standard output does not take is lost, not the run.
    """
    with contextlib.suppress(OSError, ValueError):
        try:
            print(text, flush=True)
        except UnicodeEncodeError:
            encoding = sys.stdout.encoding
            print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def is_quiet() -> bool:
    """Whether progress is not wanted."""
    return _quiet.get()


@contextlib.contextmanager
def quiet(enabled: bool = True) -> Iterator[None]:
    """Within its block `say` prints nothing."""
    before = _quiet.set(enabled)
    try:
        yield
    finally:
        _quiet.reset(before)


def shown_value(value: object) -> str:
    """Returns a setting's value as a user would write it: `8/255`, `true`, `0,255`."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        return min(f"{value:.15g}", f"{value * 255:.15g}/255", key=len)
    if isinstance(value, tuple | list):
        return ",".join(map(shown_value, value))
    if isinstance(value, int) and abs(value) >= 10**_MAX_SHOWN:
        return hex(value)  # Python refuses to write more than 4300 digits as a decimal
    return str(value)


def printable(text: str) -> str:
    """Returns a text on one line; what cannot be printed is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class _Described:
    """An error in three parts: what was received, what is expected, and the one next step."""

    def __init__(
        self,
        received: object,
        expected: str,
        fix: str,
        *,
        setting: str | None = None,
        problem: str = "",
        place: str = "",
    ):
        self.received = received
        self.expected = expected
        self.fix = fix
        self.setting = setting
        self.problem = problem
        self.place = place
        super().__init__(received, expected, fix)

    def __str__(self):
        return self.message()

    def message(self, name_of: Callable[[str], str] = str) -> str:
        """Returns one line; `name_of` says how a setting's name is written. What cannot be printed is escaped."""

        def named(text):
            return re.sub(r"`(\w+)`", lambda name: name_of(name[1]), text)

        subject = shown_value(self.received)
        if len(subject) > _MAX_SHOWN:
            subject = f"{subject[:_MAX_SHOWN]}..."
        if self.setting is not None:
            subject = f"{self.setting if self.place else name_of(self.setting)}={subject}"
        parts = [f"{self.place}: " if self.place else "", subject, f" {named(self.problem)}" if self.problem else ""]
        line = "".join(parts) + f": expected {named(self.expected)}; {named(self.fix)}"
        return printable(line)

    def within(self, place: object):
        """Returns the same error, found in a file or folder."""
        return type(self)(
            self.received, self.expected, self.fix, setting=self.setting, problem=self.problem, place=str(place)
        )


class InputError(_Described, ValueError):
    """Something the user gave (a setting, a file, a folder, a model) cannot be used.

    The command line prints one line without a traceback and exits with status 2.

    Args:
        received: the setting's value; without a setting, a phrase that says what is wrong: "the data set is empty".
        expected: what could be used, a noun phrase. Other settings are named in backticks, here and in `fix`.
        fix: the one next step, an imperative: "give `image_size`, e.g. 32,32".
        setting: the setting or argument that was given.
        problem: with a setting, what is wrong with its value: "cannot be read (permission denied)".
        place: the file or folder in which it was found.
    """


class DivergedError(_Described, ArithmeticError):
    """A loss or a weight became NaN or infinite, so that training cannot continue. Arguments as for `InputError`."""


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM: like Ctrl-C, but nobody is watching."""


def graph_refusal(message: str | None) -> str:
    """Returns why a SavedModel refuses its inputs: TensorFlow's message without the place in the graph."""
    lines = [line.strip() for line in (message or "").partition("[[{{")[0].strip().splitlines()]
    cause = lines[-1].rpartition("assertion failed: ")[-1] if lines else "no reason given"
    return re.sub(r"^\[(.*)\] \[(.*)\]$", r"\1 \2", cause)  # the message and the received values
