"""The benchmark that needs no other library and no long time runs."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.long
def test_generation_speed(tmp_path):
    def run(*command):
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True)

    steps = ["--classifier_epochs=1", "--stage1_epochs=1", "--stage2_epochs=1", "--steps_per_epoch=2"]
    run("train.py", f"--workdir={tmp_path}/run", *steps)
    given = ["benchmarks/generation_speed.py", f"--workdir={tmp_path}/run", "--images=8", f"--output={tmp_path}/a.json"]
    run(*given)
    result = json.loads((tmp_path / "a.json").read_text())
    assert {"generator, batch 1", "foolbox PGD-40", "foolbox C&W"} <= result["attacks"].keys()
    assert all(row["milliseconds_per_image"] > 0 and row["peak_mib"] > 0 for row in result["attacks"].values())
    assert result["command"] == " ".join(["python", *given])
