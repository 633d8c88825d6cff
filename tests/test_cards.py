"""Model cards of published folders: what Hugging Face reads of them."""

import ast
import json
import pathlib
import re
import shutil

import numpy as np
import pytest

from tools import pretrained

ROOT = pathlib.Path(__file__).parents[1]
FILES = (
    "config.json",
    "report.json",
    "metrics.csv",
    "generator/1/assets/preset.json",
    "generator/1/assets/class_names.txt",
)
WORST = {"worst_target": None, "worst_target_success_rate": None}
RUNS = {
    "as it is": ({}, {}),
    "untargeted": ({"attack": "untargeted", "dataset": "digits"}, {"attack": "untargeted", **WORST}),
    "own classifier": (
        {"dataset": "/home/me/images", "classifier": "mine/model.keras", "classes": [2, 1], "target_classes": ["bird"]},
        {},
    ),
}  # changes of settings and report


@pytest.fixture(params=RUNS)
def folder(request, tmp_path):
    """The files of pretrained/cifar10 from which a card is written, as another run would have them."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "pretrained" / "cifar10" / name, tmp_path / name)
    (tmp_path / "generator" / "1" / "saved_model.pb").touch()
    settings, report = RUNS[request.param]
    for name, changed in zip(FILES, (settings, report, {}, settings), strict=False):
        if changed:
            values = {key: value for key, value in {**json.loads((tmp_path / name).read_text()), **changed}.items()}
            (tmp_path / name).write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
    if "attack" in settings:
        path = tmp_path / "metrics.csv"
        path.write_text(path.read_text().replace("val_targeted", "val_untargeted"))
    return tmp_path


def test_the_hub_reads_a_card(folder):
    hub = pytest.importorskip("huggingface_hub")
    report, card = json.loads((folder / "report.json").read_text()), hub.ModelCard(pretrained.card(folder, "hub/mine"))
    success, accuracy = card.data.eval_results  # None if the head is not what the Hub specifies
    assert success.metric_type == f"{report['attack']}_success_rate"
    assert success.metric_value == pytest.approx(100 * report["success_rate"], abs=0.005)
    assert accuracy.metric_value == pytest.approx(100 * report["clean_accuracy"], abs=0.005)
    assert card.data.datasets in (None, [success.dataset_type])  # only those that the Hub has
    (code,) = re.findall("```python\n(.*?)```", card.text, re.DOTALL)
    ast.parse(code)
    assert "/home" not in card.text.replace("--dataset=/home/me/images", "")  # but for the command


@pytest.mark.long
def test_a_finished_run_becomes_a_folder_whose_card_works(finished, tmp_path):
    pretrained.ship(finished[0], tmp_path / "hub" / "mine")
    page, made = (tmp_path / "hub" / "mine" / "README.md").read_text(), {}
    (code,) = re.findall("```python\n(.*?)```", page, re.DOTALL)
    exec(code, made)
    assert made["images"].max() == 255  # whatever the data set calls full intensity
    change = np.abs(made["adversarial"] - made["images"] / 255).max()
    assert 0 < change <= json.loads((finished[0] / "config.json").read_text())["epsilon"] + 1e-6
