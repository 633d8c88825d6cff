"""The commands: their help, one line for what cannot be used, what they call, and a run through the real train.py."""

import dataclasses
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import commands
import pytest

import aigan_tf
from aigan_tf import checks, cli
from aigan_tf.config import FORMAT, Config, make_config
from aigan_tf.evaluation import compare, defences
from aigan_tf.serving import client
from aigan_tf.training import advgan, estimate, run
from aigan_tf.workdir import Workdir

ROOT = pathlib.Path(cli.__file__).parent.parent
SETTINGS = {field.name for field in dataclasses.fields(Config)}
FLAGS = {  # of each command
    "train": SETTINGS | {"workdir", "data_dir", "strategy", "export_classifier", "check", "minutes"},
    "evaluate": {
        "workdir", "data_dir", "attacks", "num_examples", "output", "transfer_to", "save_images", "custom_objects",
    },
    "attack": {"target", "generator", "label", "epsilon", "out", "custom_objects"},
    "demo": {"generator", "host", "port", "custom_objects"},
    "runs": set(),
    "advgan": {"epochs", "data_dir", "strategy", "custom_objects"},
    "export": {"data_dir", "export_classifier", "bfloat16", "custom_objects", "format"},
    "client": {"rest", "grpc", "model", "image", "target", "label", "out", "timeout"},
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
        assert "(default: 8/255; digits, mnist: 0.3; fashion_mnist: 0.1)" in listed["epsilon"]


def test_version_is_that_of_the_package_and_answered_by_every_command(capsys):
    for command in cli.COMMANDS.values():
        assert commands.run_in_process(command, "--version") == 0
    assert {*capsys.readouterr().out.splitlines()} == {f"aigan_tf {aigan_tf.__version__}"}


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
        ("train", ["--minutes=5", "--stage2_epochs=3"], ["--minutes=5", "--stage2_epochs"]),
        ("train", ["--minutes=0"], ["--minutes=0"]),
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


def test_what_cannot_be_used_is_answered_before_tensorflow_is_imported(tmp_path):
    """All in one process, in which TensorFlow is never imported."""
    code = """if True:
        import json, sys
        from aigan_tf import cli
        for command, *arguments in json.loads(sys.argv[1]):
            try:
                cli.COMMANDS[command](arguments)
            except SystemExit as error:
                print(error.code)
        print("tensorflow" in sys.modules)"""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps({"format": FORMAT, "classifier": "gone.keras"}))
    (tmp_path / "empty").mkdir()
    mistakes = {
        ("train", "--epsilon=8"): "--epsilon=8",
        ("train", "--classifier=gone.keras"): "--classifier=gone.keras",
        ("train", "--classifier=run"): "saved_model.pb",
        ("train", "--class_names=gone.txt"): "--class_names=gone.txt",
        ("train", "--classifier=gone.keras", "--custom_objects=gone.py"): "--custom_objects=gone.py",
        ("train", "--workdir=empty/..", "--seed=1"): "config.json",
        ("train", "--dataset=empty"): "no images",
        ("train", "--dataset=a/b/c"): "--dataset=a/b/c is not a folder",
        ("train", "--dataset=cifar11"): "try cifar10",
        ("evaluate", "--workdir=gone"): "--workdir=gone",
        ("evaluate", "--workdir=run"): "--classifier=gone.keras",
        ("evaluate", "--workdir=run", "--attacks=fgms"): "'fgms'",
        ("evaluate", "--workdir=run", "--transfer_to=gone.h5"): "--transfer_to=gone.h5",
        ("export", "run", "--data_dir=gone"): "--data_dir=gone",
        ("advgan", "gone"): "gone",
    }
    ended = run_python(tmp_path, "-c", code, json.dumps(list(mistakes)))
    assert ended.stdout.replace("Loading TensorFlow Datasets.", "").split() == [*["2"] * len(mistakes), "False"], ended
    for line, word in zip(ended.stderr.splitlines(), mistakes.values(), strict=True):
        assert_refused(2, line, [word])


def calls_of(monkeypatch, module, name):
    calls = []
    monkeypatch.setattr(module, name, lambda *args, **kwargs: calls.append((*args, *kwargs.values())))
    return calls


def test_flags_of_train_become_the_settings(run_command, monkeypatch):
    calls_of(monkeypatch, checks, "check_new_run")
    calls = calls_of(monkeypatch, run, "train_and_export")
    for arguments in (
        ("--dataset=cifar10", "--epsilon=12/240", "--noflip", "--data_dir=d", "--workdir=w", "--strategy=mirrored"),
        ("--dataset=some/folder/", "--seed=7", "--attack=untargeted", "--image_size=8,9", "--export_classifier"),
    ):
        assert run_command("train", *arguments)[0] == 0
    assert calls == [
        (make_config(dataset="cifar10", epsilon=0.05, flip=False), pathlib.Path("w"), "d", False, "mirrored", True),
        (
            make_config(dataset="some/folder/", seed=7, attack="untargeted", image_size=(8, 9)), pathlib.Path("runs/folder"),
            None, True, "none", True,
        ),
    ]  # fmt: skip


def test_work_folder_alone_continues_its_run(run_command, monkeypatch, tmp_path):
    calls = calls_of(monkeypatch, run, "train_and_export")
    config = make_config(dataset="cifar10", epsilon=4 / 255)
    Workdir(tmp_path / "c1").open(dataclasses.asdict(config), {})
    for arguments in ((), ("--epsilon=4/255",), ("--stage2_epochs=60",)):
        assert run_command("train", "--workdir=c1", *arguments)[0] == 0
    assert [call[0] for call in calls] == [config, config, dataclasses.replace(config, stage2_epochs=60)]
    for arguments in (("--epsilon=1/255", "--seed=3"), ("--stage2_epochs=3", "--noflip")):
        names = [argument.strip("-").removeprefix("no").partition("=")[0] for argument in arguments]
        assert_refused(*run_command("train", "--workdir=c1", *arguments), [*names, "--workdir"])
    own = dataclasses.replace(config, classifier="x.keras", custom_objects="layers.py")
    Workdir(tmp_path / "own").open(dataclasses.asdict(own), {})
    assert_refused(*run_command("train", "--workdir=own"), ["layers.py", "--custom_objects"])  # it would be executed
    Workdir(tmp_path / "runs" / "digits").open(dataclasses.asdict(make_config(epsilon=0.2)), {})
    assert_refused(*run_command("train"), ["epsilon=0.2", "0.3", "--workdir"])  # no folder was named


@pytest.mark.parametrize(
    ("program", "begins"),
    [
        ("x/train.py", "python x/train.py "),
        ("/x/aigan_tf/__main__.py", "python -m aigan_tf train "),
        ("/x/aigan-train", "aigan-train "),
    ],
)
def test_interruption_prints_the_command_to_copy(program, begins, run_command, monkeypatch, tmp_path):
    def interrupt(config, folder, *others, **named):
        Workdir(folder).open(dataclasses.asdict(make_config()), {})
        raise KeyboardInterrupt

    calls_of(monkeypatch, checks, "check_new_run")
    monkeypatch.setattr(run, "train_and_export", interrupt)
    monkeypatch.setattr(sys, "argv", [program])
    (tmp_path / "d").mkdir()
    monkeypatch.setattr(sys, "executable", "/bin/python")
    arguments = ["--workdir=my runs/c1", "--stage2_epochs=60", "--data_dir=d", "--export_classifier"]
    status, error = run_command("train", *arguments)
    assert status == 130
    _, _, command = error.strip().partition("continue with: ")
    assert command.startswith(begins)
    assert shlex.split(command)[-4:] == arguments


def test_minutes_and_check_become_epochs_and_an_end(run_command, monkeypatch, tmp_path):
    trained = calls_of(monkeypatch, run, "train_and_export")
    checked = calls_of(monkeypatch, estimate, "check_run")
    monkeypatch.setattr(
        estimate, "config_within", lambda minutes, config, *_: dataclasses.replace(config, stage2_epochs=int(minutes))
    )
    assert run_command("train", "--minutes=7")[0] == 0
    assert run_command("train", "--check")[0] == 0
    assert [config.stage2_epochs for config, *_ in trained] == [7]
    assert [config.stage2_epochs for config, *_ in checked] == [make_config().stage2_epochs]
    # A run that exists keeps its epochs: the same command continues it.
    Workdir(tmp_path / "runs" / "digits").open(dataclasses.asdict(make_config(stage2_epochs=7)), {})
    assert run_command("train", "--minutes=9")[0] == 0
    assert [config.stage2_epochs for config, *_ in trained] == [7, 7]


def test_flags_of_the_other_commands_become_arguments(run_command, monkeypatch):
    for name in ("check_finished_run", "check_advgan_run"):
        calls_of(monkeypatch, checks, name)
    exports = calls_of(monkeypatch, run, "export_run")
    baselines = calls_of(monkeypatch, advgan, "train_advgan")
    single = calls_of(monkeypatch, compare, "evaluate_workdir")
    several = calls_of(monkeypatch, defences, "compare_defences")
    asked = calls_of(monkeypatch, client, "attack_file")
    for command, *arguments in (
        ("export", "w", "--data_dir=d", "--export_classifier", "--bfloat16", "--custom_objects=a.py,b.py"),
        ("advgan", "w", "cat", "--epochs=3", "5", "--custom_objects=a.py"),
        ("evaluate",),
        ("evaluate", "--workdir=w", "--attacks=aigan,pgd", "--num_examples=5", "--transfer_to=A", "--save_images=s"),
        ("evaluate", "--workdir=w,v", "--data_dir=d", "--output=o", "--custom_objects=a.py"),
        ("client", "--rest=a:1", "--image=clean.png", "--label=dog", "--out=out.png"),
    ):
        assert run_command(command, *arguments)[0] == 0
    assert exports == [("w", "d", True, ["a.py", "b.py"], True, "savedmodel")]
    assert baselines == [("w", ["cat", "5"], 3, None, "none", ["a.py"])]
    assert single == [
        ("runs/digits", None, ["aigan"], None, None, (), None, ()),
        ("w", None, ["aigan", "pgd"], 5, None, ["A"], "s", ()),
    ]
    assert several == [(["w", "v"], "d", ["aigan"], None, "o", ["a.py"])]
    assert asked[0][1:] == ("clean.png", "out.png", "dog", "label")
