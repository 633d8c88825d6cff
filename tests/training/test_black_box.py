"""A run against a black box: a surrogate is attacked, queries are counted, saved answers are checked."""

import dataclasses
import functools
import json

import numpy as np
import pytest
import tensorflow as tf
from kill_and_resume import differences, weights
from tiny_runs import Stop, metrics_rows, tiny

from aigan_tf.classifiers import architectures, black_box
from aigan_tf.classifiers.black_box import BlackBox, train_surrogate
from aigan_tf.config import make_config
from aigan_tf.engine.callbacks import MetricsHistory
from aigan_tf.errors import InputError
from aigan_tf.evaluation.compare import evaluate_workdir
from aigan_tf.training.run import train_and_export
from aigan_tf.workdir import Workdir


@pytest.fixture
def short_recipe(monkeypatch):
    """One epoch of training for a surrogate, whose recipe has forty."""
    small = architectures.ARCHITECTURES["small"]
    recipe = dataclasses.replace(small.recipe, epochs=1)
    monkeypatch.setitem(architectures.ARCHITECTURES, "small", dataclasses.replace(small, recipe=recipe))


@pytest.mark.long
def test_black_box_is_attacked_through_a_surrogate_and_its_queries_are_counted(
    digits, tmp_path, monkeypatch, short_recipe
):
    config = tiny(black_box="small", queries_per_epoch=40, classifier_epochs=1, stage1_epochs=1, stage2_epochs=1)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    result = train_and_export(config, whole)
    assert result["queries"] == len(digits.train) + len(digits.validation) + 2 * 40
    assert metrics_rows(whole)[-1]["queries"] == str(result["queries"])
    assert json.loads((whole / "report.json").read_text())["queries"] == result["queries"]
    # The classifier itself is measured, not the surrogate.
    again = evaluate_workdir(whole, output=str(tmp_path / "out"))
    assert again["attacks"]["aigan"]["success_rate"] == result["success_rate"]
    assert again["queries"] == result["queries"]
    assert f"{result['queries']:,} images" in (tmp_path / "out" / "report.html").read_text()

    # Interrupted and continued, it queries no image twice and ends with the same weights.
    original = MetricsHistory.on_epoch_begin

    def on_epoch_begin(self, epoch, logs=None):
        if hasattr(self.model, "generator") and epoch == 1:
            raise Stop
        original(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsHistory, "on_epoch_begin", on_epoch_begin)
        with pytest.raises(Stop):
            train_and_export(config, cut)
    assert train_and_export(config, cut)["queries"] == result["queries"]
    assert not differences(*(weights(folder / "generator.weights.h5") for folder in (cut, whole)))


@pytest.mark.parametrize(
    ("change", "sealed", "word"),
    [
        (lambda answers: answers[::-1], True, "is not what"),  # only its digest tells
        (lambda answers: answers[:5], False, r"\(5, 10\)"),
        (lambda answers: answers * np.nan, False, "probabilities"),
    ],
)
def test_damaged_answers_of_a_black_box_are_refused(
    change, sealed, word, digits, digit_classifier, tmp_path, monkeypatch
):
    monkeypatch.setattr(black_box, "trained_classifier", lambda *run: functools.partial(digit_classifier))
    train, validation = (digits.train.take(slice(0, count)) for count in (200, 50))
    few = dataclasses.replace(digits, train=train, validation=validation)
    arguments = make_config(black_box="small"), few, Workdir(tmp_path), BlackBox(digit_classifier)
    for _ in range(2):  # the second finds the answers
        _, answered = train_surrogate(*arguments)
        expected = tf.nn.softmax(digit_classifier(train.as_float()))
        np.testing.assert_allclose(answered.train.labels, expected, atol=1e-6)
    path = tmp_path / "surrogate" / "answers.npz"
    with np.load(path) as answers:
        np.savez(path, **(dict(answers) | {"train": change(answers["train"])}))
    if not sealed:
        (tmp_path / "surrogate" / "digests.json").unlink()
    with pytest.raises(InputError, match=rf"answers\.npz.*{word}"):
        train_surrogate(*arguments)
