"""Runs whose generator sees the classifier's layers, from train.py to what others do with their folders."""

import shutil

import numpy as np
import pytest
from kill_and_resume import differences, weights
from tiny_runs import against, metrics_rows, train

import aigan_tf
from aigan_tf.errors import InputError
from aigan_tf.evaluation.compare import evaluate_workdir
from aigan_tf.training import run
from aigan_tf.training.advgan import train_advgan


@pytest.fixture(scope="module")
def seeing(finished, tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("seeing") / "run"
    train(against(finished, classifier_features=True), folder)
    return folder


def test_its_folder_is_measured_and_exported_again(seeing, digits):
    assert (seeing / "features.keras").is_file()
    measured = evaluate_workdir(seeing, attacks=("aigan", "aigan_stage1"), num_examples=20)
    assert measured["attacks"].keys() == {"aigan", "aigan_stage1"}
    images, targets = digits.test.as_float()[:5], np.arange(5)
    before = aigan_tf.attack(seeing, images, targets)
    run.export_run(seeing)
    np.testing.assert_allclose(aigan_tf.attack(seeing, images, targets), before, atol=1e-6)
    train_advgan(seeing, ["3"], epochs=1)
    assert (seeing / "advgan" / "3" / "generator.weights.h5").is_file()


def test_a_run_that_lost_what_it_saw_sees_it_again_in_the_classifier(seeing, tmp_path):
    folder = shutil.copytree(seeing, tmp_path / "run")
    (folder / "features.keras").unlink()
    found, expected = (
        evaluate_workdir(each, attacks=("aigan_stage1",), num_examples=20)["attacks"]["aigan_stage1"]
        for each in (folder, seeing)
    )
    assert found["mean_l2"] == pytest.approx(expected["mean_l2"], rel=1e-4)


def test_another_run_begins_with_its_generator_and_then_needs_it_no_more(seeing, finished, tmp_path, capsys):
    source, folder = shutil.copytree(seeing, tmp_path / "source"), tmp_path / "next"
    settings = dict(classifier_features=True, init_from=str(source), stage1_epochs=0)
    train(against(finished, stage2_epochs=1, **settings), folder)
    assert len(metrics_rows(folder)) == 1
    changed = differences(*(weights(each / "generator.weights.h5") for each in (seeing, folder)))
    assert changed  # it learned further
    shutil.rmtree(source)
    assert "Beginning with" in capsys.readouterr().out
    train(against(finished, stage2_epochs=2, **settings), folder, extend=True)
    assert len(metrics_rows(folder)) == 2
    assert "Beginning with" not in capsys.readouterr().out
    with pytest.raises(InputError, match="holds no generator"):
        train(against(finished, stage2_epochs=1, **settings), tmp_path / "another")
