"""Command-line flags: what `--help` shows, how values are read, and one line for what cannot be."""

import re

import pytest

from aigan_tf.errors import InputError
from aigan_tf.flags import WIDTH, Flags


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
        ("--epsilom=1", "did you mean --epsilon?"), ("--eps=1", "did you mean --epsilon?"), ("--size=1", "--image_size?"),
        ("--is=1", "did you mean --image_size?"), ("--mirror", "did you mean --flip?"), ("--zzz", "see --help"),
        ("--folder=a", "without --folder="), ("--epsilon=8/0", "8/255"),
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


@pytest.mark.parametrize(
    ("argument", "step"),
    [
        ("--epsilon=0,03", "0.03"), ("--epsilon=abc", "8/255"), ("--epsilon=--flip", "8/255"), ("--seed=1e3", "1000"),
        ("--seed=abc", "10"), ("--image_size=32x32", "32,32"), ("--input_range=0-255", "0,255"),
        ("--input_range=-1 1", "-1,1"), ("--input_range=all", "0,1"), ("--attack=untargetted", "mean untargeted"),
        ("--attack=none", "e.g. targeted"), ("--flip=yes", "--noflip"),
    ],
)  # fmt: skip
def test_the_next_step_is_a_value_that_can_be_read(argument, step, flags):
    with pytest.raises(InputError) as error:
        flags.parse([argument])
    assert argument == f"--{error.value.setting}={error.value.received}"
    assert step in error.value.fix


def test_positional_arguments_may_stand_anywhere_but_not_be_too_many(flags):
    given, values = flags.parse(["run", "--seed=3", "cat", "5"])
    assert (given, values.seed) == (["run", "cat", "5"], 3)
    for positional in ((), ("FOLDER",)):
        with pytest.raises(InputError, match="'b'"):
            Flags("Does something.", positional).parse(["a", "b"])
