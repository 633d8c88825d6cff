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


def test_wheel_holds_the_package_and_its_commands_answer(wheel, tmp_path, monkeypatch):
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == set(run("git", "ls-files", "aigan_tf", cwd=ROOT).split())
    target = tmp_path / "installed"
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", f"--target={target}", str(wheel))
    monkeypatch.setenv("PYTHONPATH", str(target))
    for command, function in COMMANDS.items():
        shown = run(str(target / "bin" / f"aigan-{command}"), "--help", cwd=tmp_path)
        assert shown.startswith(function.__doc__.splitlines()[0])
