"""Pictures without labels: the classifier's own answers stand in for them, from training to the report."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tiny_runs import tiny

from aigan_tf.errors import InputError
from aigan_tf.evaluation.compare import evaluate_workdir
from aigan_tf.evaluation.defences import compare_defences
from aigan_tf.training import run
from aigan_tf.training.advgan import train_advgan


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, digits):
    """Three hundred digits as files in one folder."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, image in enumerate(digits.test.as_float()):
        Image.fromarray(np.round(255 * image[..., 0]).astype(np.uint8)).save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def config(pictures, digit_classifier, tmp_path_factory):
    model = tmp_path_factory.mktemp("model") / "digits.keras"
    digit_classifier.save(model)
    return tiny(dataset=str(pictures), classifier=str(model), classifier_epochs=None, stage1_epochs=0, stage2_epochs=1)


@pytest.fixture(scope="module")
def unlabelled(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unlabelled") / "run"
    return folder, run.train_and_export(config, folder)


def test_pictures_are_split_and_every_answer_is_attacked(unlabelled):
    folder, result = unlabelled
    report = json.loads((folder / "report.json").read_text())
    for measured in (result, report):
        assert measured["labels"] == "classifier"
        assert "clean_accuracy" not in measured
        assert measured["num_examples"] == measured["num_correct"] == 60
        assert measured["num_attacks"] == 9 * 60
        assert list(measured["success_by_class"]) == list("0123456789")


@pytest.mark.long
def test_finished_run_is_evaluated_exported_and_continued(unlabelled, config, tmp_path, capsys):
    folder, result = unlabelled
    compared = evaluate_workdir(
        folder, None, ("aigan", "fgsm"), output=str(tmp_path / "out"), save_images=str(tmp_path / "x")
    )
    assert compared["labels"] == compared["attacks"]["aigan"]["labels"] == "classifier"
    assert compared["attacks"]["aigan"]["success_rate"] == result["success_rate"]
    assert "clean_accuracy" not in compared["attacks"]["fgsm"]
    assert (tmp_path / "out" / "report.html").exists()
    run.export_run(folder)
    assert tf.saved_model.load(str(folder / "generator" / "2")).signatures
    train_advgan(folder, ["7"], epochs=1)
    assert (folder / "advgan" / "7" / "generator.weights.h5").exists()
    again = run.train_and_export(config, folder)
    assert again["success_rate"] == result["success_rate"]
    assert "accuracy on" not in capsys.readouterr().out


@pytest.mark.parametrize("settings", [{"classifier": "small"}, {"defense": "fgsm"}])
def test_nothing_is_trained_to_classify_them(settings, config, tmp_path):
    with pytest.raises(InputError) as error:
        run.train_and_export(dataclasses.replace(config, **settings), tmp_path / "run")
    assert error.value.setting == next(iter(settings))
    assert not (tmp_path / "run").exists()


def test_comparisons_that_need_labels_are_refused(unlabelled, tmp_path):
    for refused in (
        lambda: evaluate_workdir(unlabelled[0], output=str(tmp_path / "out"), transfer_to=["small"]),
        lambda: compare_defences([unlabelled[0], unlabelled[0]], output=str(tmp_path / "out")),
    ):
        with pytest.raises(InputError) as error:
            refused()
        assert error.value.setting in ("transfer_to", "workdir")
