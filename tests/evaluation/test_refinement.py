"""A generator's images that fail, refined by PGD: on which images, how far, and as an attack of a run."""

import json

import numpy as np
import pytest
import tensorflow as tf
from tiny_runs import metrics_rows

from aigan_tf.config import make_config
from aigan_tf.errors import InputError
from aigan_tf.evaluation import attacks
from aigan_tf.evaluation.compare import evaluate_workdir
from aigan_tf.evaluation.finished_run import FinishedRun
from aigan_tf.evaluation.refinement import RefinedGenerator
from aigan_tf.workdir import Workdir

EPSILON = 0.2


@pytest.fixture(scope="module")
def some(digits):
    """Fifty digits, their labels, and a target each."""
    labels = digits.test.labels[:50]
    return tf.constant(digits.test.as_float()[:50]), labels, (labels + 1) % 10


def succeeds(classifier, images, targets, targeted):
    """Which attacks do after rounding to 8 bits."""
    rounded = np.round(np.asarray(images) * 255) / np.float32(255)
    return (np.argmax(classifier(rounded), axis=-1) == targets) == targeted


@pytest.mark.parametrize("targeted", [True, False])
def test_only_images_that_fail_are_changed_and_stay_within_epsilon_of_the_clean_ones(targeted, some, digit_classifier):
    images, labels, targets = some
    given = targets if targeted else labels
    noise = tf.random.stateless_uniform(images.shape, (1, 2), -EPSILON, EPSILON)
    start = tf.clip_by_value(images + noise, 0.0, 1.0)
    before = succeeds(digit_classifier, start, given, targeted)
    rates = []
    for steps in (1, 10):
        refined = RefinedGenerator(lambda *_: start, digit_classifier, (8, 8, 1), steps, EPSILON, targeted)
        found = refined(images, tf.constant(given)).numpy()
        changed = np.abs(found - start).max(axis=(1, 2, 3)) > 0
        np.testing.assert_array_equal(changed, ~before)
        assert np.abs(found - images).max() <= EPSILON + 1e-6
        assert found.min() >= 0
        assert found.max() <= 1
        rates.append(succeeds(digit_classifier, found, given, targeted).mean())
    assert before.mean() < rates[0] < rates[1]


def test_an_image_whose_success_rounding_undoes_is_refined():
    images, start = tf.fill((2, 1, 1, 1), 100 / 255), tf.constant([110.4, 110.6], shape=(2, 1, 1, 1)) / 255

    def classifier(x):  # the second class from 110.2 grey levels up
        level = 255 * tf.reshape(x, (-1, 1))
        return tf.concat([110.2 - level, level - 110.2], axis=1)

    refined = RefinedGenerator(lambda *_: start, classifier, (1, 1, 1), 1, 20 / 255, targeted=True)
    found = refined(images, tf.constant([1, 1])).numpy().ravel() * 255
    np.testing.assert_allclose(found, [115.4, 110.6], atol=1e-3)  # the first moved by a step of epsilon / 4


@pytest.mark.long
def test_a_run_measures_it_beside_the_generator_and_pgd_of_fewer_steps(finished, tmp_path):
    asked, saved = ("aigan", "aigan+3", "pgd-1"), tmp_path / "images"
    result = evaluate_workdir(
        finished[0], attacks=asked, num_examples=8, output=str(tmp_path / "out"), save_images=str(saved)
    )
    rows = result["attacks"]
    assert tuple(rows) == asked
    rates = [rows[name]["success_rate"] for name in asked]
    assert rates[0] < rates[1] > rates[2]
    assert all(row["max_linf_float"] <= 0.3 + 1e-6 for row in rows.values())
    points = {name.partition(",")[0]: points for name, points in result["success_by_epsilon"].items()}
    assert points.keys() == set(asked)
    assert points["aigan+3"][3]["success_rate"] > points["aigan"][3]["success_rate"]
    kept = [row["attack"] for row in metrics_rows(saved, name="manifest.csv")]
    assert {name: kept.count(name) for name in asked} == {name: rows[name]["num_attacks"] for name in asked}
    assert len(list((saved / "aigan+3").iterdir())) == rows["aigan+3"]["num_attacks"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "aigan+3" in page
    assert "PGD-3" in page
    assert json.loads((tmp_path / "out" / "report.json").read_text())["settings"].keys() == set(asked)


@pytest.mark.parametrize(("black_box", "gradient"), [("small", True), (None, False)])
def test_it_is_refused_if_the_gradient_is_missing_or_may_not_be_used(black_box, gradient, digits, digit_classifier):
    classifier = digit_classifier if gradient else lambda images: tf.stop_gradient(digit_classifier(images))
    run = FinishedRun(Workdir("no/folder"), make_config(black_box=black_box), digits, classifier)
    with pytest.raises(InputError) as error:
        attacks.build_attacks(["aigan+2"], run)
    assert error.value.setting == "attacks"
    assert "aigan+2" in error.value.received
