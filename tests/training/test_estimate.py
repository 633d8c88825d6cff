"""The estimate of a run, and epochs that fit into some minutes."""

import tempfile

import numpy as np
import pytest
import tensorflow as tf
from tiny_runs import tiny

from aigan_tf.build import build_generator
from aigan_tf.engine.callbacks import Progress
from aigan_tf.engine.checkpoints import state_of
from aigan_tf.engine.time_left import TimeLeft
from aigan_tf.errors import InputError
from aigan_tf.training import estimate, generator
from aigan_tf.training.estimate import Estimate, check_run, config_within, epochs_within
from aigan_tf.workdir import Workdir


def pace(stage1_epochs=2, stage2_epochs=8, **seconds):
    """A run that takes 10 s before and 15 s after its training; an epoch takes 52 s in stage 1 and 22 s in stage 2."""
    time_left = TimeLeft(stage1_epochs + stage2_epochs, 100, stage1_epochs, validation_images=10, attacks=100)
    for stage, each in ((1, 0.5), (2, 0.2)):
        time_left.step[stage].add(each)
    for _ in range(2):
        time_left.validation.add(1.0)
    time_left.saving.add(1.0)
    time_left.afterwards, time_left.attack_seconds = 5.0, 0.1
    time_left.start = 6.0
    return Estimate(preparation=4.0, classifiers={}, generator=time_left)


def test_epochs_fill_the_time_in_the_proportion_of_the_stages():
    assert pace().seconds() == 25 + 2 * 52 + 8 * 22
    assert epochs_within(25 + 2 * 52 + 8 * 22, pace(), 0.2) == (2, 8)
    assert epochs_within(25 + 2 * 52 + 8 * 22 - 1, pace(), 0.2) == (2, 7)
    assert epochs_within(25 + 22, pace(), 0.2) == (0, 1)
    assert epochs_within(25 + 22 - 1, pace(), 0.2) == (0, 0)
    assert epochs_within(25 + 3 * 52, pace(), 1.0) == (3, 0)
    assert epochs_within(25 + 3 * 22, pace(), 0.0) == (0, 3)
    stage1, stage2 = epochs_within(100_000, pace(), 0.2)
    assert stage1 == pytest.approx((stage1 + stage2) / 5, abs=1)
    assert sum(epochs_within(1e12, pace(), 0.2)) == estimate.MAX_EPOCHS - 1  # found at once


def test_minutes_choose_the_epochs_of_a_new_run(monkeypatch, tmp_path):
    monkeypatch.setattr(estimate, "measure_pace", lambda *arguments, **report: pace())
    monkeypatch.setattr(estimate.time, "monotonic", lambda: 1000.0)
    config = config_within(10, tiny(stage1_epochs=2, stage2_epochs=8), tmp_path / "run", None, "none", 940.0)
    with_epochs = pace(config.stage1_epochs, config.stage2_epochs)
    assert 0.8 * 540 < with_epochs.seconds() <= 540  # one of the ten minutes is over
    with pytest.raises(InputError, match="at least 2") as error:
        config_within(1.2, tiny(), tmp_path / "run", None, "none", 940.0)
    assert error.value.setting == "minutes"
    assert not list(tmp_path.iterdir())


def test_trying_stage_2_puts_back_every_bit(make_aigan, batch):
    """Not compared with a second training: on a busy CPU two of them differ in a last bit now and then."""
    aigan, states = make_aigan(), []
    batches = tf.data.Dataset.from_tensors(batch).repeat()
    time_left = TimeLeft(2, 4, stage1_epochs=1)

    def try_stage2():
        states.append(state())
        generator._try_stage2(aigan, lambda step: batches, time_left)
        states.append(state())

    def state():
        saved = [*state_of(aigan).values(), *aigan.metrics]
        return [variable.numpy() for each in saved for variable in getattr(each, "variables", [each])]

    aigan.fit(batches, steps_per_epoch=6, verbose=0, callbacks=[Progress({}, time_left, try_stage2)])
    assert time_left.step[2].count == 3
    for before, after in zip(*states, strict=True):
        np.testing.assert_array_equal(after, before)
    assert any((value != before).any() for value, before in zip(state(), states[0], strict=True))


def test_check_prints_the_parts_in_80_columns_and_writes_nothing(monkeypatch, tmp_path, capsys):
    found = pace(stage2_epochs=10_000)
    found.classifiers["wrn34_10"] = TimeLeft(120, 390)
    found.classifiers["wrn34_10"].step[2].add(8.25)
    monkeypatch.setattr(estimate, "measure_pace", lambda *arguments, **report: found)
    check_run(tiny(), tmp_path / "run")
    printed = capsys.readouterr().out
    for part in ("training wrn34_10 ", "stage 1 ", "stage 2 ", "validation ", "test "):
        assert part in printed
    assert max(map(len, printed.splitlines())) <= 80
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_check_tries_everything_and_leaves_nothing_behind(digit_classifier, tmp_path, monkeypatch, capsys):
    path = tmp_path / "model.keras"
    digit_classifier.save(path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    config = tiny(classifier=str(path), classifier_epochs=None, steps_per_epoch=40, stage2_epochs=30)
    found = check_run(config, tmp_path / "run")
    assert not found.classifiers
    assert min(found.generator.step_seconds.values()) > 0
    assert found.generator.step[1].count == 8 - 2
    assert found.generator.step[2].count == 2 * 8
    assert found.seconds() > 40 * 30 * found.generator.step_seconds[2]
    left = {entry.name for entry in tmp_path.iterdir() if "autograph" not in entry.name}  # which TensorFlow removes
    assert left == {"model.keras"}
    assert "Classifier accuracy on 300 test images" in capsys.readouterr().out


def test_check_measures_a_single_target_that_an_untrained_classifier_always_answers(digits, tmp_path):
    config = tiny(target_classes=("3",)).fitted(digits.image_shape, len(digits.train))
    folder = Workdir(tmp_path)
    generator = build_generator(config, digits)
    generator.save_weights(folder.weights)
    folder.metrics.write_text("epoch,seconds\n1,1.0\n")

    def classifier(images):
        return tf.one_hot(tf.fill(tf.shape(images)[:1], 3), 10) + 0.0 * tf.reduce_sum(images)

    _, each = estimate._try_evaluation(config, digits, classifier, folder, attacks=300, features=None)
    assert each > 0


@pytest.mark.long
@pytest.mark.parametrize(
    "settings", [dict(), dict(defense="ensemble"), dict(black_box="small"), dict(stage1_epochs=0, attack="untargeted")]
)
def test_check_counts_the_classifiers_that_are_trained_first(settings, tmp_path):
    found = check_run(tiny(classifier="small", **settings), tmp_path / "run")
    expected = {"small": 2}
    expected |= {"resnet20": 30} if "defense" in settings else {"the surrogate": 40} if "black_box" in settings else {}
    assert {name: each.epochs for name, each in found.classifiers.items()} == expected
    assert all(each.step_seconds[2] > 0 for each in found.classifiers.values())
    assert not list(tmp_path.iterdir())
