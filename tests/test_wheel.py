"""The wheel holds the whole package, and the commands it installs answer."""

import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from aigan_tf.cli import COMMANDS

ROOT = pathlib.Path(__file__).parents[1]

pytestmark = pytest.mark.long


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from the tracked files; pip takes setuptools from the network."""
    source, built = (tmp_path_factory.mktemp(name) for name in ("source", "built"))
    for name in run("git", "ls-files", "-z", cwd=ROOT).rstrip("\0").split("\0"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    run(sys.executable, "-m", "pip", "wheel", ".", "--no-deps", f"--wheel-dir={built}", cwd=source)
    (path,) = built.iterdir()
    return path


def test_wheel_holds_the_whole_package_and_nothing_else(wheel):
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == set(run("git", "ls-files", "aigan_tf", cwd=ROOT).split())
    assert "aigan_tf/py.typed" in packed


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    target = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", f"--target={target}", str(wheel))
    return target


@pytest.mark.parametrize("command", COMMANDS)
def test_installed_command_answers_help(command, installed, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(installed))
    shown = run(str(installed / "bin" / f"aigan-{command}"), "--help", cwd=tmp_path)
    assert shown.startswith(COMMANDS[command].__doc__.splitlines()[0])
    assert "\n  --" in shown
    assert not list(tmp_path.iterdir())
