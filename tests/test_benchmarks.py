"""That each benchmark that needs no other library still runs, and that the page is made from what they wrote."""

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


def result_of(script, output, *arguments):
    """Runs a benchmark from the checkout and returns what it printed, and the JSON that it wrote."""
    command = [sys.executable, f"benchmarks/{script}.py", *arguments, f"--output={output}"]
    ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return ran.stdout, json.loads(output.read_text())


def test_generation_speed(workdir, tmp_path):
    printed, result = result_of("generation_speed", tmp_path / "a.json", f"--workdir={workdir}", "--images=8")
    assert {"generator, batch 1", "foolbox PGD-40", "foolbox C&W"} <= result["attacks"].keys()
    assert all(row["milliseconds_per_image"] > 0 and row["peak_mib"] > 0 for row in result["attacks"].values())
    assert "PGD-10" in printed
    assert (
        result["command"]
        == f"python benchmarks/generation_speed.py --workdir={workdir} --images=8 --output={tmp_path / 'a.json'}"
    )


def test_streaming(tmp_path):
    result = result_of("streaming", tmp_path / "a.json", "--dataset=digits", "--image_size=16,16", "--epochs=2")[1]
    assert [row["images_per_second"] > 0 and row["own"] > 0 for row in result["epochs"]] == [True, True]


def test_scaling_measures_a_point():
    point = {"image_side": 9, "classes": 3, "batch_size": 2, "attack_steps": 1}
    command = [sys.executable, "benchmarks/scaling.py", f"--point={json.dumps(point)}", "--steps=1"]
    ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(ran.stdout)
    assert result["seconds"].keys() == {"generate", "stage 2 step", "stage 1 step"}
    assert result["peak_mib"] >= result["peak_mib_before_the_first_step"] > 0


@pytest.mark.parametrize(
    "choice",
    ["the generator's batch normalisation by Keras", "another pass over the generated images for the discriminator"],
)
def test_step_choices_measures_a_line(choice):
    command = [sys.executable, "benchmarks/step_choices.py", f"--choice={choice}", "--steps=1"]
    ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    seconds = json.loads(ran.stdout)
    assert 0 < seconds["stage 2 step"] < seconds["stage 1 step"]  # which runs the attacker as well


def test_the_pages_are_what_the_results_say(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import performance_page

    page, table = performance_page.pages()
    assert (ROOT / "docs/results/performance/README.md").read_text() == page
    assert f"{performance_page.BEGIN}\n{table}{performance_page.END}" in (ROOT / "README.md").read_text()
