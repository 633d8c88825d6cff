"""The wheel: what is in it, and that the commands it installs answer."""

import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]

pytestmark = pytest.mark.long


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from what is tracked; pip takes setuptools from the network, as for whoever builds it."""
    source, built = (tmp_path_factory.mktemp(name) for name in ("source", "built"))
    for name in run("git", "ls-files", "-z", cwd=ROOT).rstrip("\0").split("\0"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    run(sys.executable, "-m", "pip", "wheel", ".", "--no-deps", f"--wheel-dir={built}", cwd=source)
    (path,) = built.iterdir()
    return path


def test_the_wheel_holds_the_typed_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"aigan_tf"}
    assert {"aigan_tf/cli.py", "aigan_tf/py.typed"} <= set(names)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    target = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", f"--target={target}", str(wheel))
    return target


@pytest.mark.parametrize(
    ("command", "sentence", "names"),
    [
        ("aigan-train", "Trains a classifier", ["epsilon", "stage1_epochs", "workdir", "method"]),
        ("aigan-evaluate", "Measures trained generators", ["attacks", "workdir", "num_examples"]),
        ("aigan-client", "Asks a served generator", ["rest", "grpc", "image", "target", "timeout"]),
    ],
)
def test_an_installed_command_answers_with_its_own_flags(command, sentence, names, installed, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(installed))
    shown = run(str(installed / "bin" / command), "--helpshort", cwd=tmp_path)
    assert shown.startswith(sentence)
    for name in names:
        assert f"\n  --{name}: " in shown
    assert not list(tmp_path.iterdir())
