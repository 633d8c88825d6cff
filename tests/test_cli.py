"""The commands: their help, one line for what cannot be used, what they call, and a run through the real train.py."""

import dataclasses
import os
import pathlib
import re
import subprocess
import sys

import commands
import pytest

from aigan_tf import cli
from aigan_tf.config import Config, make_config
from aigan_tf.evaluation import compare, defences
from aigan_tf.serving import client
from aigan_tf.training import advgan, run

ROOT = pathlib.Path(cli.__file__).parent.parent
SETTINGS = {field.name for field in dataclasses.fields(Config)}
FLAGS = {  # of each command
    "train": SETTINGS | {"workdir", "data_dir", "strategy", "export_classifier"},
    "evaluate": {
        "workdir", "data_dir", "attacks", "num_examples", "output", "transfer_to", "save_images", "custom_objects",
    },
    "attack": {"target", "generator", "label", "epsilon", "out", "custom_objects"},
    "advgan": {"epochs", "data_dir", "strategy", "custom_objects"},
    "export": {"data_dir", "export_classifier", "custom_objects"},
    "client": {"rest", "grpc", "model", "image", "target", "label", "out", "timeout"},
    "demo": {"generator", "host", "port", "custom_objects"},
}  # fmt: skip


def run_python(folder, *arguments):
    """Runs Python in another process, in `folder`, with the package on its path."""
    options = dict(env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300)
    return subprocess.run([sys.executable, *arguments], cwd=folder, **options)


@pytest.fixture
def run_command(monkeypatch, tmp_path, capsys):
    """Runs a command in this process, in an empty folder; returns its exit status and stderr."""

    def run(name, *arguments):
        monkeypatch.chdir(tmp_path)
        return commands.run_in_process(cli.COMMANDS[name], *arguments), capsys.readouterr().err

    return run


def assert_refused(status, stderr, words=()):
    assert status == 2
    (line,) = stderr.strip().splitlines()
    assert re.match(r"error: .*: expected .*; .*", line)
    for word in words:
        assert word in line


@pytest.mark.parametrize("command", FLAGS)
def test_help_lists_every_flag_with_its_default(command, capsys):
    assert commands.run_in_process(cli.COMMANDS[command], "--help") == 0
    begin, *parts = re.split(r"^  --(?:\[no\])?(\w+)", capsys.readouterr().out, flags=re.MULTILINE)
    listed = {name: " ".join(text.split()) for name, text in zip(parts[::2], parts[1::2], strict=True)}
    assert begin.startswith(cli.COMMANDS[command].__doc__.splitlines()[0])
    assert listed.keys() == FLAGS[command]
    for name, text in listed.items():
        assert re.match(r"(=[\w|]+)?: (?!\(default)", text), f"--{name}{text}"
        assert text.count("(default: ") == 1, f"--{name}{text}"
    if command == "train":
        assert "(default: 8/255; digits, mnist, fashion_mnist: 0.3)" in listed["epsilon"]


def test_package_without_a_command_lists_them():
    shown = run_python(ROOT, "-m", "aigan_tf")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert re.findall(r"^  (\w+)", shown.stdout, flags=re.MULTILINE) == list(FLAGS)
    unknown = run_python(ROOT, "-m", "aigan_tf", "trian", "--help")
    assert_refused(unknown.returncode, unknown.stderr, ["'trian'", "train"])


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        ("train", ["--epsilon=8"], ["--epsilon=8", "8/255"]),
        ("train", ["--queries_per_epoch=10"], ["--queries_per_epoch=10", "--black_box"]),
        ("train", ["--data_dir=nowhere"], ["--data_dir=nowhere"]),
        ("train", ["--custom_objects=nowhere.py", "--classifier=x.keras"], ["nowhere.py"]),
        ("train", ["--image_size=99999,99999"], ["GiB"]),
        ("evaluate", ["--workdir=a,b", "--save_images=c"], ["--save_images=c", "--workdir"]),
        ("evaluate", ["--workdir=nowhere"], ["--workdir=nowhere"]),
        ("advgan", [], ["WORKDIR"]),
        ("export", ["nowhere"], ["nowhere"]),
        ("client", ["--rest=a:1", "--target=1", "--label=1"], ["--target", "--label"]),
        ("client", ["--rest=a:1", "--target=1", "--image=a.png"], ["--out"]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_wrong_arguments_are_answered_in_one_line_and_create_nothing(command, arguments, words, run_command, tmp_path):
    assert_refused(*run_command(command, *arguments), words)
    assert not list(tmp_path.iterdir())


def test_wrong_flag_is_answered_before_tensorflow_is_imported(tmp_path):
    code = (
        "import sys; from aigan_tf import cli\n"
        "try:\n    cli.train()\n"
        "except SystemExit as error:\n    print(error.code, 'tensorflow' in sys.modules)"
    )
    ended = run_python(tmp_path, "-c", code, "--epsilon=8")
    assert ended.stdout.split() == ["2", "False"]
    assert_refused(2, ended.stderr)


def calls_of(monkeypatch, module, name):
    calls = []
    monkeypatch.setattr(module, name, lambda *args, **kwargs: calls.append((*args, *kwargs.values())))
    return calls


def test_flags_of_train_become_the_settings(run_command, monkeypatch):
    calls = calls_of(monkeypatch, run, "train_and_export")
    for arguments in (
        ("--dataset=cifar10", "--epsilon=12/240", "--noflip", "--data_dir=d", "--workdir=w", "--strategy=mirrored"),
        ("--dataset=some/folder/", "--seed=7", "--attack=untargeted", "--image_size=8,9", "--export_classifier"),
    ):
        assert run_command("train", *arguments)[0] == 0
    assert calls == [
        (make_config(dataset="cifar10", epsilon=0.05, flip=False), "w", "d", False, "mirrored"),
        (make_config(dataset="some/folder/", seed=7, attack="untargeted", image_size=(8, 9)), "runs/folder", None, True, "none"),
    ]  # fmt: skip


def test_flags_of_the_other_commands_become_arguments(run_command, monkeypatch, tmp_path):
    exports = calls_of(monkeypatch, run, "export_run")
    baselines = calls_of(monkeypatch, advgan, "train_advgan")
    single = calls_of(monkeypatch, compare, "evaluate_workdir")
    several = calls_of(monkeypatch, defences, "compare_defences")
    asked = []
    monkeypatch.setattr(client, "read_image", lambda path: b"clean")
    monkeypatch.setattr(client, "attack_image", lambda *args: asked.append(args) or b"adversarial")
    for command, *arguments in (
        ("export", "w", "--data_dir=d", "--export_classifier", "--custom_objects=a.py,b.py"),
        ("advgan", "w", "cat", "--epochs=3", "5", "--custom_objects=a.py"),
        ("evaluate",),
        ("evaluate", "--workdir=w", "--attacks=fgsm,pgd", "--num_examples=5", "--transfer_to=A", "--save_images=s"),
        ("evaluate", "--workdir=w,v", "--data_dir=d", "--output=o", "--custom_objects=a.py"),
        ("client", "--rest=a:1", "--image=clean.png", "--label=dog", "--out=out.png"),
    ):
        assert run_command(command, *arguments)[0] == 0
    assert exports == [("w", "d", True, ["a.py", "b.py"])]
    assert baselines == [("w", ["cat", "5"], 3, None, "none", ["a.py"])]
    assert single == [
        ("runs/digits", None, ["aigan"], None, None, (), None, ()),
        ("w", None, ["fgsm", "pgd"], 5, None, ["A"], "s", ()),
    ]
    assert several == [(["w", "v"], "d", ["aigan"], None, "o", ["a.py"])]
    assert asked[0][1:] == (b"clean", "dog", "label")
    assert (tmp_path / "out.png").read_bytes() == b"adversarial"
