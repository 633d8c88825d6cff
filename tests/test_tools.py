"""The committed figures, tables and cards are what the scripts in tools/ write."""

import dataclasses
import re

import matplotlib
import pytest

from aigan_tf.config import FORMAT, make_config
from tools import ablation, figures, pretrained, runs, tables
from tools.markdown import section

EACH_SECTION = [(page, name) for page, sections in tables.SECTIONS.items() for name in sections]


@pytest.mark.parametrize(("page", "name"), EACH_SECTION)
def test_table_is_what_tables_py_writes(page, name):
    assert section((runs.ROOT / page).read_text(), name) == tables.SECTIONS[page][name]()


@pytest.mark.parametrize("path", tables.WHOLE_FILES)
def test_file_is_what_tables_py_writes(path):
    assert (runs.ROOT / path).read_text() == tables.WHOLE_FILES[path]()


def test_ablation_marks_what_lies_beyond_the_seeds_of_the_base():
    def row(*rates):
        return {
            str(seed): dict(success_rate=rate, worst_target_success_rate=0.5, mean_l2=1.0, steps={"1": 2, "2": 8})
            for seed, rate in enumerate(rates)
        }

    rows = {ablation.BASE: row(0.6, 0.7), "better": row(0.8, 0.9), "alike": row(0.65, 0.9), "one seed": row(0.99)}
    shown = ablation.study_table(rows).splitlines()[2:]
    assert [line.split(" | ")[:2] for line in shown] == [
        ["| one seed", "99.0%"], ["| better", "**85.0%**"], ["| alike", "77.5%"], [f"| {ablation.BASE}", "65.0%"]
    ]  # fmt: skip


@pytest.mark.parametrize("folder", [path.parent for path in runs.ROOT.glob("pretrained/*/config.json")], ids=str)
def test_card_is_what_pretrained_py_writes(folder):
    assert (folder / "README.md").read_text() == pretrained.card(folder)


@pytest.mark.parametrize(
    ("changed", "flags"),
    [
        ({}, ""),
        ({"variable_epsilon": True, "gan_weight": 0.0}, " --gan_weight=0 --variable_epsilon"),
        ({"epsilon": 4 / 255, "image_size": [32, 32]}, " --epsilon=4/255 --image_size=32,32"),
        ({"switch": "fixed", "stage1_epochs": 9}, " --stage1_epochs=9 --switch_success=1"),
        ({"bound": "tanh"}, " --bound=tanh"),
    ],
)
def test_command_has_what_differs_from_the_preset(changed, flags):
    saved = {"dataset": "cifar10", "bound": "projection", "optimizer": "muon", "discriminator_width": 16}
    saved |= {name: getattr(make_config(dataset="cifar10"), name) for name in runs.ADDED}  # what this early run had not
    saved |= {"mixed_precision": True, "class_maps": 8, **dict(sorted(changed.items()))}
    assert runs.command(saved, "cifar10") == f"python train.py --dataset=cifar10{flags}"


def test_command_depends_on_the_age_of_the_run():
    early = runs.command({"dataset": "mnist", "seed": make_config().seed}, "early")
    settings = "--bound=tanh --optimizer=adam --mixed_precision=false --class_maps=0 --discriminator_width=32"
    assert early == f"python train.py --dataset=mnist {settings} --workdir=runs/early"
    today = {"format": FORMAT, **dataclasses.asdict(make_config(dataset="cifar10"))}
    assert runs.command(today, "cifar10") == "python train.py --dataset=cifar10"
    stage1, stage2 = today["stage1_epochs"], today["stage2_epochs"]
    extensions = [{"after_epochs": stage1 + stage2}, {"after_epochs": stage1 + stage2 + 5}]
    longer = today | {"stage2_epochs": 99, "extensions": extensions}
    again = "python train.py --workdir=runs/cifar10 --stage2_epochs="
    assert runs.command(longer, "cifar10") == f"python train.py --dataset=cifar10 && {again}{stage2 + 5} && {again}99"


def test_figures_come_out_the_same(tmp_path):
    assert set(figures.COMMITTED) == {path.name for path in figures.IMAGES.glob("*.svg")}
    figures.draw_committed(tmp_path)
    for name in figures.COMMITTED:
        drawn, committed = (tmp_path / name).read_text(), (figures.IMAGES / name).read_text()
        assert re.findall("<!-- (.*) -->", drawn) == re.findall("<!-- (.*) -->", committed)
        assert drawn == committed or f"Matplotlib v{matplotlib.__version__}," not in committed
