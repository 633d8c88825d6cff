"""What a command shows: its own lines, one line if it ends early, and those of other libraries only if it dies."""

import os
import signal

import pytest

from aigan_tf.errors import DivergedError, InputError
from aigan_tf.terminal import exit_status


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError(8, "less", "lower it", setting="epsilon"), 2, "error: --epsilon=8: expected less; lower it\n"),
        (DivergedError("the loss is NaN", "a loss", "lower `seed`"), 1, "error: the loss is NaN: expected a loss; lower --seed\n"),
        (KeyboardInterrupt(), 130, "\ninterrupted, again\n"),
    ],
)  # fmt: skip
def test_errors_become_a_line_and_an_exit_status(error, status, line, capsys):
    with pytest.raises(SystemExit) as end, exit_status(", again"):
        raise error
    assert (end.value.code, capsys.readouterr().err) == (status, line)


def test_sigterm_ends_with_143_and_the_handler_is_restored(capsys):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end, exit_status(", again"):
        os.kill(os.getpid(), signal.SIGTERM)
    assert (end.value.code, capsys.readouterr().err) == (143, "\nterminated, again\n")
    assert signal.getsignal(signal.SIGTERM) is before
