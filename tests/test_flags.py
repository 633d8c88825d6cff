"""Command-line flags: what `--help` shows, how values are read, and one line for what cannot be."""

import os
import re
import signal

import pytest

from aigan_tf.errors import DivergedError, InputError
from aigan_tf.flags import WIDTH, Flags, exit_status


@pytest.fixture
def flags():
    """The flags of a command, one of each kind."""
    made = Flags("Does something.\n\n    a command", ("FOLDER", "CLASS..."))
    made.add(bool, "flip", False, "mirror images", "images")
    made.add(float, "epsilon", 8 / 255, "budget " * 30, "attack")
    made.add(str, "attack", "targeted", "goal, with `epsilon`", "attack", choices=("targeted", "untargeted"))
    made.add(int, "seed", None, "seed", "attack", "drawn")
    made.add(str, "output", None, "folder", "images")
    made.add(list, "attacks", ["a", "b"], "by comma", "images")
    made.add(tuple[int, int], "image_size", None, "HEIGHT,WIDTH", "images")
    made.add(tuple[float, float], "input_range", (0.0, 1.0), "LOW,HIGH", "images")
    return made


def test_help_shows_usage_groups_and_defaults_as_a_user_writes_them(flags):
    assert max(map(len, flags.help().splitlines())) <= WIDTH == 80
    shown = re.sub(r"--epsilon: [budget \n]+", "--epsilon: budget ", flags.help())
    assert (
        shown
        == """Does something.

a command

images:
  --[no]flip: mirror images (default: false)
  --output: folder (default: none)
  --attacks: by comma (default: a,b)
  --image_size: HEIGHT,WIDTH (default: none)
  --input_range: LOW,HIGH (default: 0,1)

attack:
  --epsilon: budget (default: 8/255)
  --attack=targeted|untargeted: goal, with epsilon (default: targeted)
  --seed: seed (default: drawn)"""
    )


def test_an_existing_folder_with_commas_in_its_name_is_one_value(flags, tmp_path, monkeypatch):
    (tmp_path / "one, two").mkdir()
    for whole in (f"{tmp_path}/one, two", f"{tmp_path}/one, three"):
        values = flags.parse([f"--attacks={whole}"])[1]
        assert (values.attacks == [whole]) == whole.endswith("two")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert flags.parse(["--attacks=~/one, two"])[1].attacks == ["~/one, two"]


def test_help_is_printed_whatever_else_is_given(flags, capsys):
    with pytest.raises(SystemExit) as end:
        flags.parse(["--nonsense", "-h"])
    assert end.value.code == 0
    assert capsys.readouterr().out == flags.help() + "\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {"flip": False, "epsilon": 8 / 255, "attacks": ["a", "b"], "seed": None, "input_range": (0.0, 1.0)}),
        (["--flip=true", "--noflip", "--epsilon=16/255", "--seed=-1"], {"flip": False, "epsilon": 16 / 255, "seed": -1}),
        (["--flip", "--epsilon", "1e-2", "--attack=untargeted"], {"flip": True, "epsilon": 0.01, "attack": "untargeted"}),
        (["--attacks=c", "--image_size=32,48", "--input_range=-1,1"],
         {"attacks": ["c"], "image_size": (32, 48), "input_range": (-1.0, 1.0)}),
    ],
)  # fmt: skip
def test_values_are_read_by_their_kind(arguments, expected, flags):
    values = flags.parse(arguments)[1]
    assert {name: values[name].value for name in expected} == expected


@pytest.mark.parametrize(
    ("argument", "word"),
    [
        ("--epsilom=1", "did you mean --epsilon?"), ("--zzz", "--zzz"), ("--epsilon=8/0", "zero"),
        ("--epsilon=8/x", "8/x"), ("--epsilon", "epsilon"), ("--seed=1.5", "1.5"), ("--seed=" + 5000 * "9", "seed"),
        ("--flip=maybe", "maybe"), ("--noflip=1", "noflip"), ("--attack=both", "untargeted"),
        ("--image_size=32x32", "32x32"), ("--output=", "output"), ("--attacks=a,,b", "attacks"),
        ("--flagfile=nowhere", "nowhere"), ("--epsilon=0.1\n0.2", "0.1\\n0.2"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line(argument, word, flags):
    with pytest.raises(InputError) as error:
        flags.parse([argument])
    assert word in str(error.value)
    assert str(error.value).isprintable()


def test_positional_arguments_may_stand_anywhere_but_not_be_too_many(flags):
    given, values = flags.parse(["run", "--seed=3", "cat", "5"])
    assert (given, values.seed) == (["run", "cat", "5"], 3)
    for positional in ((), ("FOLDER",)):
        with pytest.raises(InputError, match="'b'"):
            Flags("Does something.", positional).parse(["a", "b"])


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
