"""The command line: one line for what cannot be used, and a whole run through the real command."""

import dataclasses
import functools
import json
import os
import pathlib
import re
import subprocess
import sys

import commands
import numpy as np
import pytest
import tensorflow as tf

from aigan_tf import cli, config
from aigan_tf.data.datasets import load
from aigan_tf.training import run as training

ROOT = pathlib.Path(cli.__file__).parent.parent


def run_command(folder, *arguments):
    """Runs the real train.py in another process, in `folder`."""
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments], cwd=folder, capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def run_in_process(monkeypatch, tmp_path, capsys):
    """Runs train.py's main function here, on flags of its own, in an empty folder: exit status, stdout, stderr."""

    def run(*arguments):
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            status = commands.run_in_process(cli.train, *arguments)
        return status, *capsys.readouterr()

    return run


def assert_refused(status, stderr, words, folder):
    assert status == 2
    lines = stderr.strip().splitlines()
    assert len(lines) == 1, stderr
    assert lines[0].startswith("error: ")
    assert "Traceback" not in stderr
    for word in words:
        assert word in lines[0]
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset=cifar11"], ["cifar11", "expected", "did you mean cifar10"]),
        (["--epsilom=0.1"], ["epsilom", "expected", "--help"]),
        (["--epsilon=small"], ["epsilon", "small", "expected", "--help"]),
        (["--target_class=3"], ["--target_class=3", "no effect", "--method=advgan"]),
        (["--method=advgan", "--target_class=12"], ["--target_class=12", "'12'", "0 to 9"]),
        (["--method=advgan", "--target_class=3", "--batch_size=1300"], ["--batch_size=1300", "AdvGAN for 3", "lower"]),
        (["--export_run"], ["--export_run with no --workdir", "expected"]),
        (["--export_run", "--workdir=runs/x", "--dataset=mnist"], ["--export_run with --dataset", "expected"]),
        (["--method=advgan", "--export_classifier"], ["--export_classifier has no effect", "leave it out"]),
        (["--black_box=vgg"], ["--black_box=vgg", "resnet20", "choose"]),
        (["--queries_per_epoch=10"], ["--queries_per_epoch=10", "no effect", "--black_box"]),
        (["--black_box=B"], ["8 x 8", "--classifier=small"]),
        (["--method=gan"], ["method", "gan", "--help"]),
        (["--defense=rl"], ["--defense=rl", "pgd", "choose"]),
        (["--epsilon=0"], ["--epsilon=0.0", "above 0", "give"]),
        (["--epsilon=-1"], ["--epsilon=-1.0", "above 0", "give"]),
        (["--epsilon=8/0"], ["--epsilon=8/0", "division by zero", "expected"]),
        (["--epsilon=8/x"], ["--epsilon=8/x", "could not convert", "expected"]),
        (["--epsilon=1.5"], ["--epsilon=1.5", "at most 1", "grey levels"]),
        (["--stage1_epochs=-1"], ["--stage1_epochs=-1", "0 or more"]),
        (["--stage2_epochs=-2"], ["--stage2_epochs=-2", "0 or more"]),
        (["--stage1_epochs=0", "--stage2_epochs=0"], ["--stage1_epochs=0", "at least one epoch", "raise"]),
        (["--dataset=mnist", "--data_dir=nowhere"], ["--data_dir=nowhere", "expected", "create"]),
        (["--data_dir=nowhere"], ["--data_dir=nowhere", "expected", "create"]),
        (["--workdir="], ["--workdir is empty", "expected", "leave"]),
        (["--method=advgan", "--target_class="], ["--target_class is empty", "expected", "leave"]),
        (["--attack_step_size=1e300"], ["--attack_step_size=1e+300", "at most 1", "epsilon / 4"]),
        (["--classifier=nowhere.keras"], ["nowhere.keras", "expected", "correct"]),
        (["--classifier=A"], ["8 x 8", "at least 12 x 12", "--classifier"]),
        (["--class_names=nowhere.txt"], ["nowhere.txt", "expected", "correct"]),
        (["--batch_size=100000"], ["--batch_size=100000", "1348", "lower"]),
        (["--custom_objects=nowhere.py", "--classifier=x.keras"], ["nowhere.py", "expected", "correct"]),
        (["digits"], ["'digits'", "expected", "--help"]),
        (["--dataset=~no-such-user/pictures"], ["no-such-user", "expected"]),
        (["--workdir=~no-such-user/run"], ["no-such-user", "expected"]),
        (["--epsilon=0.1\n0.2"], ["--epsilon=0.1\\n0.2", "expected", "correct"]),
        (["--dataset=a\nb\u2028c"], ["a\\nb\\u2028c", "expected"]),
        (["--dataset="], ["--dataset=", "expected a name", "leave it out"]),
        (["--dataset=" + 5000 * "x"], ["too long", "expected", "correct"]),
        (["--workdir=" + 5000 * "x"], ["too long", "expected", "correct"]),
        (["--batch_size=0x" + 5000 * "f"], ["--batch_size=", "at most 2147483647", "smaller"]),
        (["--max_shift=8"], ["--max_shift=8", "8 x 8 x 1", "lower"]),
        (["--image_size=99999,99999"], ["GiB", "expected", "--image_size"]),
    ],
)
def test_what_cannot_be_used_is_one_line_and_creates_nothing(arguments, words, run_in_process, tmp_path):
    status, _, stderr = run_in_process(*arguments)
    assert_refused(status, stderr, words, tmp_path)


def test_a_bad_value_is_answered_before_tensorflow_is_imported(tmp_path):
    code = (
        "import sys; from aigan_tf import cli\n"
        "try:\n    cli.train()\n"
        "except SystemExit as error:\n    print(error.code, 'tensorflow' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, "--epsilon=8"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.stdout.split() == ["2", "False"]
    assert_refused(2, run.stderr, ["--epsilon=8.0", "at most 1", "8/255"], tmp_path)


def test_flags_become_the_settings(run_in_process, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(training, "train_and_export", lambda *args: calls.append(args))
    assert run_in_process()[0] == 0
    assert (
        run_in_process(
            "--dataset=cifar10", "--epsilon=12/240", "--noflip", "--data_dir=d", "--workdir=w", "--strategy=mirrored"
        )[0]
        == 0
    )
    assert run_in_process("--dataset=some/folder/", "--seed=7", "--attack=untargeted", "--export_classifier")[0] == 0
    assert calls == [
        (config.make_config(), "runs/digits", None, False, "none"),
        (config.make_config(dataset="cifar10", epsilon=0.05, flip=False), "w", "d", False, "mirrored"),
        (config.make_config(dataset="some/folder/", seed=7, attack="untargeted"), "runs/folder", None, True, "none"),
    ]


def test_an_export_takes_its_settings_from_the_run(run_in_process, monkeypatch):
    calls = []
    monkeypatch.setattr(training, "export_run", lambda *args: calls.append(args))
    assert run_in_process("--export_run", "--workdir=runs/x")[0] == 0
    assert run_in_process("--export_run", "--workdir=runs/x", "--data_dir=d", "--export_classifier")[0] == 0
    assert run_in_process("--export_run", "--workdir=runs/x", "--custom_objects=layers.py")[0] == 0
    assert calls == [
        ("runs/x", None, False, ()), ("runs/x", "d", True, ()), ("runs/x", None, False, ("layers.py",))
    ]  # fmt: skip


TINY = (
    "--classifier_epochs=1",
    "--steps_per_epoch=2",
    "--stage1_epochs=1",
    "--stage2_epochs=1",
    "--batch_size=32",
    "--attack_steps=2",
    "--generator_width=4",
    "--generator_blocks=1",
)


def test_the_command_trains_exports_and_guards_its_folder(tmp_path, run_in_process):
    run = run_command(tmp_path, *TINY)
    assert run.returncode == 0, run.stderr[-2000:]
    assert "Traceback" not in run.stderr
    folder = tmp_path / "runs" / "digits"
    report = json.loads((folder / "report.json").read_text())
    assert f"{report['success_rate']:.2%}" in run.stdout
    assert str(pathlib.Path("runs/digits/generator/1")) in run.stdout

    # The generator it wrote is used on images it never saw, by the numbers of config.json alone.
    epsilon = json.loads((folder / "config.json").read_text())["epsilon"]
    images = load("digits").test.as_float()[:5]
    loaded = tf.saved_model.load(str(folder / "generator" / "1"))
    outputs = loaded.signatures["serving_default"](images=tf.constant(images), target_class=tf.range(5))
    adversarial = outputs["adversarial_images"].numpy()
    assert adversarial.shape == images.shape
    assert 0 < np.abs(adversarial - images).max() <= epsilon + 1e-6
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1

    # Another configuration is refused there, and nothing of the run is touched.
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    status, _, stderr = run_in_process(*TINY, "--epsilon=0.25")
    assert status == 2
    assert len(stderr.strip().splitlines()) == 1
    for word in ("runs/digits", "epsilon=0.3", "0.25", "expected", "another --workdir"):
        assert word in stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


SETTINGS = {field.name for field in dataclasses.fields(config.Config)}
RUN = {
    "workdir",
    "data_dir",
    "method",
    "target_class",
    "advgan_epochs",
    "strategy",
    "export_classifier",
    "export_run",
}
HELP = {  # a command's sentence and its flags
    "train.py": ("Trains a classifier", SETTINGS | RUN),
    "evaluate.py": (
        "Measures trained generators",
        {"workdir", "data_dir", "attacks", "num_examples", "output", "transfer_to", "save_images", "custom_objects"},
    ),
    "-maigan_tf.client": (
        "Asks a served generator",
        {"rest", "grpc", "model", "image", "target", "label", "out", "timeout"},
    ),
}


def ask_for_help(command, **options):
    return subprocess.run(
        [sys.executable, command, "--help"], cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=60, **options
    )


@pytest.fixture(scope="module")
def help_of():
    """From a command to its text before the flags, and to what is said of each flag in one line."""

    @functools.cache
    def parts(command):
        shown = ask_for_help(command, stdout=subprocess.PIPE)
        assert (shown.returncode, shown.stderr) == (0, "")
        begin, *listed = re.split(r"^  --(?:\[no\])?(\w+): ", shown.stdout, flags=re.MULTILINE)
        return begin, {name: " ".join(text.split()) for name, text in zip(listed[::2], listed[1::2], strict=True)}

    return parts


@pytest.mark.parametrize("command", HELP)
def test_help_says_what_the_command_does_and_lists_its_flags_with_their_defaults(command, help_of):
    sentence, names = HELP[command]
    begin, listed = help_of(command)
    assert begin.startswith(sentence)
    assert listed.keys() == names
    for name, text in listed.items():
        assert not text.startswith("(default"), name
        assert len(re.findall(r"\(default: \S.*?\)", text)) == text.lower().count("default") == 1, f"--{name}: {text}"


def test_help_says_defaults_as_a_user_would(help_of):
    _, train = help_of("train.py")
    assert "(default: 8/255; digits, mnist, fashion_mnist: 0.3)" in train["epsilon"]
    assert "(default: 0; digits: 1; mnist, fashion_mnist: 2)" in train["max_shift"]
    assert "(default: false; cifar10, cifar100: true)" in train["flip"]
    assert "(default: false)" in train["export_run"]
    assert "(default: empty)" in train["image_size"]
    assert "(default: all)" in train["target_class"]
    assert "(default: 60)" in help_of("-maigan_tf.client")[1]["timeout"]


def test_help_into_a_closed_pipe_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        shown = ask_for_help("train.py", stdout=writer)
    finally:
        os.close(writer)
    assert (shown.returncode, shown.stderr) == (0, "")
