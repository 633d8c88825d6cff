"""Warnings come where a rate means less than it looks, and nowhere else."""

import keras
import numpy as np
import pytest

from aigan_tf.evaluation.caveats import defence_warnings, comparison_warnings, gradient_masking_warnings, mean_success
from aigan_tf.evaluation.compare import images_until_paid_for
from aigan_tf.evaluation.measure import EvaluationSet


def row(success, before=None, **by_class):
    return {
        "success_rate": success,
        "success_rate_float": success if before is None else before,
        "success_by_class": by_class or {"a": success, "b": success},
    }


def test_attacks_in_their_order_raise_no_doubt():
    rows = {"fgsm": row(0.3), "aigan": row(0.95), "advgan": row(0.96), "pgd": row(0.99), "cw": row(0.97, 1.0)}
    assert comparison_warnings(rows) == []
    assert comparison_warnings({"aigan": row(0.95)}) == []


@pytest.mark.parametrize(
    ("name", "words"), [("fgsm", "hide its gradients"), ("aigan", "too few steps"), ("advgan", "pgd")]
)
def test_a_weaker_attack_that_beats_pgd_is_said(name, words):
    (doubt,) = comparison_warnings({name: row(0.9), "pgd": row(0.8)})
    assert doubt.startswith(f"{name} succeeds more often (90.0%) than pgd (80.0%)")
    assert words in doubt


def test_attacks_are_compared_on_the_targets_that_both_were_asked_for():
    rows = {"advgan": row(0.9, a=0.9, b=None), "pgd": row(0.8, a=0.95, b=0.65)}
    assert mean_success(rows, ("advgan", "pgd")) == {"advgan": 0.9, "pgd": 0.95}
    assert comparison_warnings(rows) == []
    assert mean_success({"x": row(1.0, a=None, b=1.0), "y": row(1.0, a=1.0, b=None)}, ("x", "y")) == {}


def test_an_early_end_of_cw_and_what_rounding_undoes_are_said():
    (doubt,) = comparison_warnings({"pgd": row(0.9), "cw": row(0.8)})
    assert "cw is stopped too early" in doubt
    (doubt,) = comparison_warnings({"pgd": row(0.9), "cw": row(0.7, 1.0)})
    assert "100.0% before its pictures are rounded to 8 bits and on 70.0% after" in doubt


@pytest.fixture(scope="module")
def examples(digits, digit_classifier):
    """A function that makes an evaluation set whose classifier's logits are multiplied."""

    def make(factor):
        inputs = keras.Input((8, 8, 1))
        scaled = keras.Model(inputs, digit_classifier(inputs) * factor)
        split = digits.validation.take(slice(0, 40))
        return EvaluationSet(scaled, split.as_float(), split.labels, digits.class_names)

    return make


@pytest.mark.parametrize("targeted", [True, False])
def test_gradients_that_vanish_are_counted(examples, targeted):
    assert gradient_masking_warnings(examples(1.0), targeted) == []
    flat = examples(0.0)
    (doubt,) = gradient_masking_warnings(flat, targeted)
    assert f"is zero on {flat.correct.sum()} of {flat.correct.sum()} images" in doubt


def test_gradients_are_looked_at_where_the_first_hundred_images_are_all_wrong(digits, digit_classifier):
    right = np.flatnonzero(np.argmax(digit_classifier(digits.train.as_float()), axis=1) == digits.train.labels)[:110]
    images, labels = digits.train.as_float()[right], digits.train.labels[right].copy()
    labels[:100] = (labels[:100] + 1) % 10
    mostly_wrong = EvaluationSet(digit_classifier, images, labels, digits.class_names)
    assert gradient_masking_warnings(mostly_wrong, True) == []
    few = mostly_wrong.first_correct(7)
    np.testing.assert_array_equal(few.images, images[100:107])
    assert few.correct.all()


def test_a_saturated_classifier_has_no_untargeted_gradient(examples):
    # The label's cross-entropy is flat where the classifier is sure; another class's is not.
    saturated = examples(1e7)
    right = int(saturated.correct.sum())
    (doubt,) = gradient_masking_warnings(saturated, targeted=False)
    assert f"is zero on {right} of {right} images" in doubt
    assert gradient_masking_warnings(saturated, targeted=True) == []


def test_a_defense_that_hides_its_gradients_is_seen():
    assert "hides its gradients" in defence_warnings(0.5475, 0.0004)[0]  # a public FGSM-trained ResNet-32
    assert "mislead" in defence_warnings(0.5, 0.6)[0]
    assert defence_warnings(0.69, 0.57) == []


def test_training_is_paid_for_once_the_time_saved_is_as_much():
    assert images_until_paid_for(600.0, 101.0, 1.0) == 6000
    assert images_until_paid_for(600.05, 101.0, 1.0) == 6001
    assert images_until_paid_for(600.0, 1.0, 1.0) is None
    assert np.isfinite(images_until_paid_for(1.0, 1.0, 0.5))
