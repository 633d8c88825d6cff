"""What a command shows: its own lines, one line if it ends early, and those of other libraries only if it dies."""

import logging
import os
import pathlib
import signal
import subprocess
import sys
import warnings

import pytest

from aigan_tf import terminal
from aigan_tf.errors import DivergedError, InputError
from aigan_tf.terminal import exit_status

ROOT = pathlib.Path(terminal.__file__).parent.parent
FOREIGN = ("from C++", "from a logger", "a warning")
COMMAND = """if True:
    import logging, os, pathlib, signal, sys, warnings
    from aigan_tf.errors import InputError
    from aigan_tf.terminal import exit_status, keep_log
    with exit_status():
        os.write(2, b"from C++\\n")
        logging.getLogger("absl").warning("from a logger")
        warnings.warn("a warning")
        logging.getLogger("aigan_tf.data").warning("our own")
        print("a bar", file=sys.stderr)
        end, *log = sys.argv[1:]
        for path in log:
            keep_log(pathlib.Path(path))
            os.write(2, b"later\\n")
        if end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif end == "aborted":
            os.abort()
        elif end == "raised":
            raise RuntimeError("unexpected")
        elif end == "refused":
            raise InputError("x", "y", "z")
    os.write(2, b"after\\n")
"""


@pytest.fixture
def run_command(tmp_path):
    """Runs a command that ends in a way; returns its exit status and the lines of its standard error."""

    def run(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
        options = dict(env=environment, capture_output=True, text=True, cwd=tmp_path, timeout=60)
        ended = subprocess.run([sys.executable, "-c", COMMAND, *arguments], **options)
        return ended.returncode, ended.stderr.splitlines()

    return run


@pytest.mark.parametrize(
    ("end", "status", "last"),
    [("returned", 0, "after"), ("refused", 2, "error: x: expected y; z")],
)
def test_a_command_that_ends_by_itself_shows_its_own_lines_alone(end, status, last, run_command, tmp_path):
    assert run_command(end) == (status, ["our own", "a bar", last])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("end", "status"), [("killed", -signal.SIGKILL), ("aborted", -signal.SIGABRT), ("raised", 1)])
@pytest.mark.parametrize("logs", [(), ("kept.log",)], ids=["", "kept"])
def test_lines_of_other_libraries_are_shown_if_the_command_dies(end, status, logs, run_command, tmp_path):
    ended, lines = run_command(end, *logs)
    shown = "\n".join(lines)
    assert ended == status
    for line in (*FOREIGN, *("later" for _ in logs)):
        assert shown.count(line) == 1, shown
    if end == "raised":
        assert lines[-1] == "RuntimeError: unexpected"
        assert shown.index("a warning") < shown.index("Traceback")
    assert [path.name for path in tmp_path.iterdir()] == list(logs)


def test_a_log_that_is_kept_replaces_that_of_an_earlier_command_and_follows_no_link(run_command, tmp_path):
    precious, log = tmp_path / "precious", tmp_path / "tensorflow.log"
    precious.write_text("mine")
    log.symlink_to(precious)
    for _ in range(2):
        assert run_command("returned", str(log)) == (0, ["our own", "a bar", "after"])
        lines = log.read_text().splitlines()
        assert [line for line in lines if line in ("from C++", "from a logger", "later", "our own")] == [
            "from C++", "from a logger", "later",
        ]  # fmt: skip
    assert precious.read_text() == "mine"


def redirected():
    """Returns what a command puts in another place while it runs."""
    handlers = list(logging.getLogger().handlers)
    return sys.stderr, os.fstat(2).st_ino, warnings.showwarning, handlers, list(sys.meta_path)


def test_everything_is_restored_for_the_process_that_goes_on(capfd):
    before = redirected()
    with exit_status():
        os.write(2, b"hidden\n")
        print("shown", file=sys.stderr)
    assert redirected() == before
    os.write(2, b"shown\n")
    assert capfd.readouterr().err == "shown\nshown\n"
    terminal.keep_log(pathlib.Path("nowhere"))  # outside a command nothing is kept
    assert not os.path.exists("nowhere")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError(8, "less", "lower it", setting="epsilon"), 2, "error: --epsilon=8: expected less; lower it\n"),
        (DivergedError("the loss is NaN", "a loss", "lower `seed`"), 1, "error: the loss is NaN: expected a loss; lower --seed\n"),
        (KeyboardInterrupt(), 130, "\ninterrupted, again\n"),
    ],
)  # fmt: skip
def test_errors_become_a_line_and_an_exit_status(error, status, line, capsys):
    def ends():
        with exit_status() as interruption:
            interruption.hint = lambda: ", again"
            raise error

    with pytest.raises(SystemExit) as end:
        ends()
    assert (end.value.code, capsys.readouterr().err) == (status, line)


def test_sigterm_ends_with_143_and_the_handler_is_restored(capsys):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end, exit_status():
        os.kill(os.getpid(), signal.SIGTERM)
    assert (end.value.code, capsys.readouterr().err) == (143, "\nterminated\n")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_second_signal_does_not_interrupt_the_last_line(second, monkeypatch, capsys):
    forget = terminal._forget

    def interrupted():
        os.kill(os.getpid(), second)
        forget()

    monkeypatch.setattr(terminal, "_forget", interrupted)
    with pytest.raises(SystemExit) as end, exit_status():
        os.kill(os.getpid(), signal.SIGTERM)
    assert (end.value.code, capsys.readouterr().err) == (143, "\nterminated\n")


def test_a_command_whose_output_is_closed_goes_on(monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    with exit_status():
        streams = sys.stdout, sys.stderr
        for stream in streams:
            assert not stream.isatty()
            print("lost", file=stream)
    for stream in streams:
        stream.close()
