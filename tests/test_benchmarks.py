"""The benchmark that needs no other library and no long time runs."""

import json
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.long

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run on the digits, finished in a few steps."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    steps = ["--classifier_epochs=1", "--stage1_epochs=1", "--stage2_epochs=1", "--steps_per_epoch=2"]
    subprocess.run([sys.executable, "train.py", f"--workdir={folder}", *steps], cwd=ROOT, check=True)
    return folder


def test_generation_speed(workdir, tmp_path):
    output = tmp_path / "a.json"
    given = ["benchmarks/generation_speed.py", f"--workdir={workdir}", "--images=8", f"--output={output}"]
    ran = subprocess.run([sys.executable, *given], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(output.read_text())
    assert {"generator, batch 1", "foolbox PGD-40", "foolbox C&W"} <= result["attacks"].keys()
    assert all(row["milliseconds_per_image"] > 0 and row["peak_mib"] > 0 for row in result["attacks"].values())
    assert "PGD-10" in ran.stdout
    assert result["command"] == " ".join(["python", *given])
