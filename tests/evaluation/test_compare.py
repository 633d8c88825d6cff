"""evaluate.py on a run's folder: the report, attacks on the same images, and what is refused before measuring."""

import json
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_runs import change_config, contents, metrics_rows, untimed

from aigan_tf.config import ATTACKS
from aigan_tf.errors import InputError
from aigan_tf.evaluation import attacks, foolbox_attacks
from aigan_tf.evaluation.compare import evaluate_workdir
from aigan_tf.evaluation.report_files import latest_report
from aigan_tf.training.advgan import train_advgan


def test_attacks_that_are_checked_by_name_are_those_that_can_be_built():
    assert {*attacks.GENERATOR_ATTACKS, attacks.REFINED, *foolbox_attacks.DESCRIPTIONS} == set(ATTACKS)


def test_exported_generator_is_measured_as_the_trained_one_was(finished, tmp_path, capsys):
    folder, result = finished
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    output = tmp_path / "again"
    again = evaluate_workdir(folder, output=str(output))
    assert {entry.name for entry in output.iterdir()} == {"report.json", "report.csv", "report.html"}
    assert json.loads((output / "report.json").read_text()) == again
    page = (output / "report.html").read_text()
    assert again["id"] in page
    assert again["id"] in (output / "report.csv").read_text()
    assert again["id"] != result["id"]
    assert str(folder) not in page + json.dumps(again)
    measured = untimed(again["attacks"]["aigan"])
    assert measured == {name: result[name] for name in measured}
    assert measured.keys() >= {"success_rate", "success_by_class", "mean_l2", "max_linf", "num_attacks"}
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    printed = capsys.readouterr().out
    assert f"{result['success_rate']:.1%}" in printed
    assert "Measuring" in printed
    assert printed.splitlines()[-1].endswith(str(output / "report.html"))
    with pytest.raises(InputError) as error:
        evaluate_workdir(folder, num_examples=7, output=str(output))
    assert error.value.setting == "output"
    assert "Measuring" not in capsys.readouterr().out


def test_evaluation_is_a_folder_of_its_own_and_keeps_an_earlier_report(run_folder):
    evaluation = run_folder / "evaluation"
    evaluation.mkdir()
    (evaluation / "report.json").write_text("of an earlier version")
    few = evaluate_workdir(run_folder, num_examples=7)["attacks"]["aigan"]
    assert few["num_examples"] == 7
    assert few["num_attacks"] == 9 * few["num_correct"]
    newest = evaluation / (evaluation / "latest").read_text().strip()
    assert {entry.name for entry in newest.iterdir()} == {"report.json", "report.csv", "report.html"}
    assert (evaluation / "report.json").read_text() == "of an earlier version"


@pytest.mark.long
def test_attacks_are_compared_on_the_same_images(run_folder, tmp_path, monkeypatch, capsys):
    for name, value in dict(binary_search_steps=2, steps=50, stepsize=0.1).items():
        monkeypatch.setitem(foolbox_attacks.CW_SETTINGS, name, value)  # its strength is tested elsewhere
    folder, asked = run_folder, ("aigan", "aigan_stage1", "advgan", "fgsm", "pgd", "cw", "aigan+2")
    train_advgan(folder, ["3", "7"], epochs=1)
    before = contents(folder)
    saved = tmp_path / "images"
    result = evaluate_workdir(folder, attacks=asked, num_examples=12, save_images=str(saved), transfer_to=("small",))
    printed = capsys.readouterr().out
    assert {path: path.read_bytes() for path in before} == before
    rows = result["attacks"]
    assert list(rows) == [*asked[:-1], "cw, moved into epsilon", asked[-1]]
    count = rows["aigan"]["num_correct"]
    assert 1 <= count <= 12
    attacks = {name: row["num_attacks"] for name, row in rows.items()}
    assert attacks["aigan"] == attacks["aigan_stage1"] == attacks["fgsm"] == attacks["pgd"] == 9 * count
    assert attacks["cw"] == attacks["cw, moved into epsilon"] == count
    rates = rows["advgan"]["success_by_class"]
    assert [name for name, rate in rates.items() if rate is not None] == ["3", "7"]
    assert rows["pgd"]["success_rate"] >= rows["fgsm"]["success_rate"]
    assert rows["pgd"]["success_rate"] > rows["aigan"]["success_rate"]  # of a generator trained for twelve steps
    assert rows["aigan+2"]["success_rate"] > rows["aigan"]["success_rate"]
    assert rows["aigan_stage1"]["mean_l2"] != rows["aigan"]["mean_l2"]
    for name, row in rows.items():
        assert name == "cw" or row["max_linf_float"] <= 0.3 + 1e-6
    assert result["mean_success_on_advgan_targets"].keys() == {"aigan", "advgan"}
    curves = result["success_by_epsilon"]
    assert set(curves) == {*(f"{name}, perturbation scaled down" for name in ("aigan", "aigan+2")), "fgsm", "pgd"}
    assert curves["pgd"][-1]["epsilon"] == pytest.approx(0.3)
    assert curves["pgd"][-1]["success_rate"] > curves["pgd"][0]["success_rate"]
    assert result["transfer"]["small"]["num_attacks"] > 0

    evaluation = latest_report(folder / "evaluation").parent
    assert json.loads((evaluation / "report.json").read_text()) == result
    assert [row["name"] for row in metrics_rows(evaluation, name="report.csv")] == [*rows, "small"]
    html = (evaluation / "report.html").read_text()
    assert f"{rows['pgd']['success_rate']:.1%}" in html
    assert f"{rows['pgd']['success_rate']:.1%}" in printed

    # The rates again, from the saved images alone.
    images_of = {}
    for row in metrics_rows(saved, name="manifest.csv"):
        images_of.setdefault(row["attack"], []).append(row)
    assert {name: len(images) for name, images in images_of.items()} == attacks
    model = keras.models.load_model(folder / "classifier.keras")
    for name, kept in images_of.items():
        images = tf.stack([tf.io.decode_png((saved / row["file"]).read_bytes()) for row in kept])
        answers = np.argmax(model(tf.cast(images, tf.float32) / 255.0), axis=-1)
        assert np.mean(answers == [int(row["target"]) for row in kept]) == pytest.approx(rows[name]["success_rate"])


@pytest.mark.parametrize(
    ("arguments", "setting", "word"),
    [
        (dict(attacks=("aigan", "deepfool")), "attacks", "deepfool"),
        (dict(attacks=("aigan+",)), "attacks", r"aigan\+2"),
        (dict(attacks=("aigan+x",)), "attacks", r"aigan\+2"),
        (dict(attacks=("aigan+0",)), "attacks", r"aigan\+2"),
        (dict(attacks=("advgan+2",)), "attacks", "mean advgan"),
        (dict(attacks=("aigan+2",), transfer_to=("small",)), "transfer_to", r"aigan,aigan\+2"),
        (dict(attacks=("advgan",)), "attacks", "advgan"),
        (dict(attacks=("fgsm",), transfer_to=("small",)), "transfer_to", "aigan"),
        (dict(transfer_to=("small", "no/such.keras")), "transfer_to", "no/such"),
        (dict(transfer_to=("small", "A")), "transfer_to", "A"),
        (dict(output="mine/a.txt"), "output", "a.txt"),
        (dict(save_images="mine"), "save_images", "mine"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_done(
    arguments, setting, word, finished, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("kept")
    with pytest.raises(InputError, match=word) as error:
        evaluate_workdir(finished[0], **{"output": "out", **arguments})
    assert error.value.setting == setting
    printed = capsys.readouterr().out
    assert "Training" not in printed  # nor is any other classifier of transfer_to trained first
    assert not re.search("Measuring (aigan|advgan|fgsm)", printed)
    assert [(path.name, path.read_text()) for path in (tmp_path / "mine").iterdir()] == [("a.txt", "kept")]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("damage", "sealed", "word"),
    [
        (lambda folder: shutil.rmtree(folder / "generator"), True, "generator"),
        (lambda folder: (folder / "generator/1/saved_model.pb").write_bytes(b"no"), True, "saved_model.pb"),
        (lambda folder: (folder / "generator/1/saved_model.pb").write_bytes(b"no"), False, "generator/1"),
        (lambda folder: (folder / "classifier.keras").write_bytes(b"no"), False, "classifier.keras"),
        (lambda folder: (folder / "classifier.keras").unlink(), True, "classifier.keras"),
        (lambda folder: (folder / "metrics.csv").unlink(), True, "metrics.csv"),
        (lambda folder: change_config(folder, attack="untargeted"), True, "generator/1"),
        (lambda folder: change_config(folder, image_size=[9, 16]), True, "classifier.keras"),
    ],
)
def test_damaged_run_is_refused(damage, sealed, word, run_folder):
    if not sealed:
        (run_folder / "digests.json").unlink()
    report = (run_folder / "report.json").read_bytes()
    damage(run_folder)
    with pytest.raises(InputError, match=word):
        evaluate_workdir(run_folder, attacks=("aigan", "aigan_stage1"), num_examples=20)
    assert (run_folder / "report.json").read_bytes() == report
