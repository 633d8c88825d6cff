"""Warnings appear if a rate means less than it seems to, and only then."""

import keras
import pytest

from aigan_tf.evaluation.caveats import comparison_warnings, defence_warnings, gradient_masking_warnings, mean_success
from aigan_tf.evaluation.evaluation_set import EvaluationSet


def row(success, before=None, **by_class):
    return {
        "success_rate": success,
        "success_rate_float": success if before is None else before,
        "success_by_class": by_class or {"a": success, "b": success},
    }


@pytest.mark.parametrize(
    ("rows", "begins", "reason"),
    [
        ({"fgsm": row(0.9), "pgd": row(0.8)}, "fgsm succeeds more often (90.0%) than pgd (80.0%)", "mask"),
        ({"aigan": row(0.9), "pgd": row(0.8)}, "aigan succeeds more often (90.0%) than pgd (80.0%)", "steps"),
        ({"advgan": row(0.9), "pgd": row(0.8)}, "advgan succeeds more often (90.0%) than pgd (80.0%)", "steps"),
        ({"pgd": row(0.9), "cw": row(0.8)}, "pgd succeeds more often (90.0%", "too early"),
        ({"pgd": row(0.9), "cw": row(0.7, 1.0)}, "cw succeeds on 100.0%", "70.0%"),
    ],
)
def test_weaker_attack_ahead_or_rounding_loss_raises_a_warning(rows, begins, reason):
    (warning,) = comparison_warnings(rows)
    assert warning.startswith(begins)
    assert reason in warning


def test_expected_order_raises_no_warning_and_only_common_targets_are_compared():
    rows = {"fgsm": row(0.3), "aigan": row(0.95), "advgan": row(0.96), "pgd": row(0.99), "cw": row(0.97, 1.0)}
    assert comparison_warnings(rows) == []
    assert comparison_warnings({"aigan": row(0.95)}) == []
    rows = {"advgan": row(0.9, a=0.9, b=None), "pgd": row(0.8, a=0.95, b=0.65)}
    assert mean_success(rows, ("advgan", "pgd")) == {"advgan": 0.9, "pgd": 0.95}
    assert comparison_warnings(rows) == []
    assert mean_success({"x": row(1.0, a=None, b=1.0), "y": row(1.0, a=1.0, b=None)}, ("x", "y")) == {}


# The label's cross-entropy is flat if the classifier is sure; that of another class is not.
@pytest.mark.parametrize(
    ("factor", "targeted", "masked"),
    [(1.0, True, False), (1.0, False, False), (0.0, True, True), (0.0, False, True), (1e7, False, True), (1e7, True, False)],
)  # fmt: skip
def test_zero_gradients_are_counted(digits, digit_classifier, factor, targeted, masked):
    inputs = keras.Input((8, 8, 1))
    scaled = keras.Model(inputs, digit_classifier(inputs) * factor)
    split = digits.validation.take(slice(0, 40))
    measured = EvaluationSet(scaled, split.as_float(), split.labels, digits.class_names)
    warnings = gradient_masking_warnings(measured, targeted)
    right = measured.correct.sum()
    assert len(warnings) == masked
    assert all(f"zero on {right} of {right} images" in warning for warning in warnings)


def test_defence_that_masks_gradients_raises_a_warning():
    assert len(defence_warnings(0.5475, 0.0004)) == 1  # a public FGSM-trained ResNet-32
    assert len(defence_warnings(0.5, 0.6)) == 1
    assert defence_warnings(0.69, 0.57) == []
