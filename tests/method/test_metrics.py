"""What training and evaluation report."""

import numpy as np
import pytest

from aigan_tf.method.metrics import PerturbationL2, PerturbationLinf, SuccessRate

LOGITS = np.array([[3, 1, 2], [0, 5, 1], [1, 0, 4], [9, 8, 7]], np.float32)  # answers 0, 1, 2, 0
TARGETS = np.array([0, 2, 2, 1], np.int32)  # two of four


def test_success_is_answering_the_target_or_leaving_the_label():
    for targeted, expected in ((True, 2 / 3), (False, 1 / 3)):
        metric = SuccessRate(targeted=targeted)
        metric.update_state(LOGITS[:3], TARGETS[:3].astype(np.int64))
        assert float(metric.result()) == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [np.bool_, np.float32])
def test_success_rate_is_over_all_images_of_any_weight(dtype):
    metric = SuccessRate(targeted=True)
    for weights in ([1, 1, 1, 0], [0, 0, 0, 0]):  # the second: a batch of which nothing counts
        metric.update_state(LOGITS, TARGETS, np.array(weights, dtype))
        assert float(metric.result()) == pytest.approx(2 / 3)
    metric.update_state(LOGITS[3:], TARGETS[3:])
    assert float(metric.result()) == pytest.approx(2 / 4)  # not the mean of two batches


def test_l2_is_the_mean_norm_and_linf_the_largest_change_over_all_images():
    images, adversarial_images = np.random.default_rng(0).uniform(0, 1, (2, 5, 4, 6, 3)).astype(np.float32)
    change = (adversarial_images - images).reshape(5, -1).astype(np.float64)
    order = np.argsort(-np.abs(change).max(axis=1))  # the largest first: a later, smaller one must not replace it
    l2, linf = PerturbationL2(), PerturbationLinf()
    for part in (order[:1], order[1:]):
        for metric in (l2, linf):
            metric.update_state(images[part], adversarial_images[part])
    assert float(l2.result()) == pytest.approx(np.linalg.norm(change, axis=1).mean(), rel=1e-5)
    assert float(linf.result()) == pytest.approx(np.abs(change).max(), rel=1e-6)

    for metric in (l2, linf):
        metric.reset_state()
        assert float(metric.result()) == 0.0
    l2.update_state(images, adversarial_images, np.array([True, False, False, True, False]))
    assert float(l2.result()) == pytest.approx(np.linalg.norm(change, axis=1)[[0, 3]].mean(), rel=1e-5)
