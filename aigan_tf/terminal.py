"""Terminal output of a command: only its own lines, and one line and an exit status if it ends early.

The output of TensorFlow and other libraries goes to a file, and is shown if the command dies.
"""

import contextlib
import io
import logging
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import tempfile
import types
import warnings
from collections.abc import Iterable, Sequence

from aigan_tf.errors import DivergedError, InputError, Terminated, is_quiet, say

# Shows the file if its standard input ends without an empty line: a process that is killed, or crashes in C++, cannot do
# it itself. A line that is not empty says where the file is now.
_WATCHER = """
log=$0
while IFS= read -r line; do
  [ -n "$line" ] || exit 0
  log=$line
done
if [ -s "$log" ]; then
  echo 'The last lines of TensorFlow and other libraries:' >&2
  tail -n 40 "$log" >&2
fi
rm -f "$0"
"""
# By the first module whose import nothing but loading the library asks for: others look whether `tensorflow` is there.
_SLOW_IMPORTS = {"tensorflow.python": "TensorFlow", "tensorflow_datasets": "TensorFlow Datasets", "foolbox": "foolbox"}


def command_line(name: str, arguments: Sequence[str]) -> str:
    """Returns a command for the shell, by the program that was called: train.py, aigan-train or python -m aigan_tf train."""
    python, program = pathlib.PurePath(sys.executable or "python").name, pathlib.PurePath(sys.argv[0])
    if program.name == "__main__.py":
        called = [python, "-m", "aigan_tf", name]
    elif program.suffix == ".py":
        called = [python, str(program)]
    else:
        called = [program.name]
    return shlex.join([*called, *arguments])


@contextlib.contextmanager
def exit_status():
    """Runs a command: hides the lines of other libraries, and turns what ends it early into one line and an exit status.

    2 for an `InputError`, 1 for a `DivergedError`, and as in shells 130 for Ctrl-C and 143 for SIGTERM.

    Yields:
        An object whose `hint` is called for the end of the line that an interruption prints.
    """
    interruption = types.SimpleNamespace(hint=str)

    def terminate(number, frame):
        raise Terminated

    def end(line, status):
        for number in before:  # Ctrl-C twice shall not show where in this line it came
            signal.signal(number, signal.SIG_IGN)
        print(line, file=sys.stderr)
        sys.exit(status)

    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed; no other file shall get its number
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, terminate)  # Python's own handler would leave half-written files behind
    try:
        with other_lines_hidden(), _slow_imports_announced():
            try:
                yield interruption
            except InputError as error:
                end(f"error: {error.message(_as_flag)}", 2)
            except DivergedError as error:
                end(f"error: {error.message(_as_flag)}", 1)
            except Terminated:
                end(f"\nterminated{interruption.hint()}", 143)
            except KeyboardInterrupt:
                end(f"\ninterrupted{interruption.hint()}", 130)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _as_flag(setting):
    return f"--{setting}"


@contextlib.contextmanager
def _slow_imports_announced():
    """Prints a line when a library begins to load that takes seconds, wherever in the block it is imported."""
    left = dict(_SLOW_IMPORTS)

    class Announcer:
        def find_spec(self, name, path=None, target=None):
            if name in left:
                say(f"Loading {left.pop(name)}.")

    announcer = Announcer()
    sys.meta_path.insert(0, announcer)
    try:
        yield
    finally:
        sys.meta_path.remove(announcer)


def progress(steps: Iterable | None, doing: str, unit: str, total: int | None = None, unit_scale: bool = False):
    """Returns the steps, with a bar on a terminal if they take longer than a second; it goes when they end.

    Args:
        steps: what to iterate over, or None if the caller counts by `update`.
        doing: caption of the bar.
        unit: what is counted.
        total: how many there are, if `steps` does not know.
        unit_scale: whether large numbers are written with a prefix: 1.5MB.
    """
    from tqdm import tqdm  # here: an error in the flags is answered without it

    disable = True if is_quiet() else None  # None: if standard error is not a terminal
    return tqdm(steps, doing, total, unit=unit, unit_scale=unit_scale, leave=False, delay=1, disable=disable)


_hidden = None  # the `_HiddenLines` of the running command


@contextlib.contextmanager
def other_lines_hidden():
    """Within its block, writes to a file what other libraries would write to the terminal.

    That is file descriptor 2, Python's warnings, and all logging but this package's; `sys.stderr` stays the terminal. The
    file is removed at the end, unless `keep_log` gave it a name. If the block raises an `Exception`, or the process dies,
    its last lines are shown.
    """
    global _hidden
    with contextlib.ExitStack() as undo:
        try:
            _hidden = _HiddenLines(undo)
        except OSError:  # standard error is closed, or there is no room for the file
            undo.close()
        undo.callback(_forget)
        try:
            yield
        except Exception:
            if _hidden:
                _hidden.last_word = b""
            raise


def _forget():
    global _hidden
    _hidden = None


def keep_log(path: pathlib.Path) -> None:
    """Moves the log of other libraries to `path`, where it continues. Does nothing outside a command.

    A log that cannot be written there stays where it is.
    """
    if _hidden:
        with contextlib.suppress(OSError):
            _hidden.move_to(path)


class _HiddenLines:
    """File descriptor 2 as a file, with a watcher that shows the file if this process dies.

    Args:
        undo: takes what puts everything back.

    Raises:
        OSError: there is no such descriptor, or the file cannot be made.
    """

    def __init__(self, undo: contextlib.ExitStack):
        self.last_word = b"\n"  # to the watcher: all is well
        terminal = os.dup(2)
        undo.callback(os.close, terminal)
        handle, name = tempfile.mkstemp(prefix="aigan_tf.", suffix=".log")
        self.temporary = pathlib.Path(name)
        undo.callback(self.temporary.unlink, missing_ok=True)
        self.watcher = None
        with contextlib.suppress(FileNotFoundError):  # no shell
            # In a session of its own Ctrl-C does not end it.
            command = ["sh", "-c", _WATCHER, name]
            self.watcher = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=terminal, start_new_session=True)
            undo.callback(lambda: self.watcher.communicate(self.last_word))
        undo.callback(os.dup2, terminal, 2)
        os.dup2(handle, 2)
        os.close(handle)
        self._split_python(undo, terminal)

    def _split_python(self, undo, terminal):
        """Sends Python's output to the terminal if it is this package's, else to the file."""
        options = dict(errors="backslashreplace", line_buffering=True)
        raw = io.BufferedWriter(_Log(2, "w", closefd=False))
        file = undo.enter_context(io.TextIOWrapper(raw, "utf-8", **options))
        if _descriptor(sys.stderr) == 2:  # a notebook or a test has another one, which stays
            raw = os.fdopen(terminal, "wb", closefd=False)
            own = undo.enter_context(io.TextIOWrapper(raw, sys.stderr.encoding, **options))
            undo.enter_context(contextlib.redirect_stderr(own))
        for stream, own in ((file, False), (sys.stderr, True)):
            handler = logging.StreamHandler(stream)
            handler.addFilter(lambda record, own=own: (record.name.split(".")[0] == "aigan_tf") == own)
            logging.getLogger().addHandler(handler)
            undo.callback(logging.getLogger().removeHandler, handler)

        def show_warning(message, category, filename, lineno, stream=None, line=None):
            (stream or file).write(warnings.formatwarning(message, category, filename, lineno, line))

        undo.callback(setattr, warnings, "showwarning", warnings.showwarning)
        warnings.showwarning = show_warning

    def move_to(self, path):
        path.unlink(missing_ok=True)  # of an earlier run, or a link to elsewhere
        with open(path, "xb") as file:
            file.write(self.temporary.read_bytes())
            file.flush()
            os.dup2(file.fileno(), 2)
        if self.watcher:
            self.watcher.stdin.write(os.fsencode(path.absolute()) + b"\n")
            self.watcher.stdin.flush()
        self.temporary.unlink()


class _Log(io.FileIO):
    """A file that loses what a full disk does not take, rather than filling the terminal with errors about that."""

    def write(self, data):
        with contextlib.suppress(OSError):
            super().write(data)
        return len(data)


def _descriptor(stream):
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError):  # none, or no file behind it
        return None
