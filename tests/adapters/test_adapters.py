"""A generator in the loops of ART and foolbox, by the libraries themselves."""

import foolbox
import numpy as np
import pytest
import tensorflow as tf
from served_example import EPSILON, NAMES, SHAPE, classifier, floats, make_generator

from aigan_tf.adapters import art as art_adapter
from aigan_tf.adapters.foolbox import GeneratorAttack
from aigan_tf.errors import InputError
from aigan_tf.serving.export import ServedGenerator
from aigan_tf.trained_generator import TrainedGenerator

TARGETS = np.array([4, 0, 2])


def make_trained(targeted=True, variable_epsilon=False):
    network = make_generator(budget_input=variable_epsilon)
    served = ServedGenerator(network, SHAPE, NAMES, EPSILON, targeted, variable_epsilon)
    return TrainedGenerator(served.signatures(), NAMES, served, None, SHAPE, EPSILON)


@pytest.fixture(scope="module")
def generator():
    return make_trained(variable_epsilon=True)


@pytest.fixture(scope="module")
def untargeted():
    return make_trained(targeted=False)


def art_classifier(low, high, channels_first):
    art = pytest.importorskip("art.estimators.classification")

    def predict(images):
        images = np.moveaxis(images, 1, -1) if channels_first else images
        return classifier(tf.constant((images - low) / (high - low), tf.float32)).numpy()

    shape = (SHAPE[2], *SHAPE[:2]) if channels_first else SHAPE
    return art.BlackBoxClassifier(predict, shape, len(NAMES), clip_values=(low, high))


@pytest.mark.parametrize(("low", "high", "channels_first"), [(0.0, 1.0, False), (-1.0, 1.0, True)])
def test_art_gets_what_the_generator_makes_in_its_own_range_and_axes(low, high, channels_first, generator):
    estimator = art_classifier(low, high, channels_first)
    attack = art_adapter.GeneratorEvasion(estimator, generator)
    given = floats() * (high - low) + low
    given = np.moveaxis(given, -1, 1) if channels_first else given
    expected = generator(floats(), TARGETS)
    for y in (TARGETS, np.eye(5)[TARGETS]):
        made = attack.generate(given, y=y)
        assert made.dtype == np.float32
        made = np.moveaxis(made, 1, -1) if channels_first else made
        np.testing.assert_allclose((made - low) / (high - low), expected, atol=1e-6)
    attack.set_params(eps=EPSILON / 4 * (high - low))
    np.testing.assert_array_less(np.abs(attack.generate(given, TARGETS) - given), EPSILON / 4 * (high - low) + 1e-6)
    with pytest.raises(InputError):
        attack.generate(given)


def test_art_asks_its_classifier_for_the_labels_of_an_untargeted_attack(untargeted):
    estimator = art_classifier(0.0, 1.0, False)
    attack = art_adapter.GeneratorEvasion(estimator, untargeted)
    assert not attack.targeted
    expected = untargeted(floats(), estimator.predict(floats()).argmax(axis=1))
    np.testing.assert_array_equal(attack.generate(floats()), expected)


def test_art_is_named_where_it_is_not_installed(generator, monkeypatch):
    monkeypatch.setattr(art_adapter, "EvasionAttack", object)
    with pytest.raises(InputError, match="adversarial-robustness-toolbox"):
        art_adapter.GeneratorEvasion(None, generator)


def test_foolbox_measures_the_generator_at_each_epsilon(generator):
    model = foolbox.TensorFlowModel(classifier, bounds=(0, 1))
    criterion = foolbox.criteria.TargetedMisclassification(tf.constant(TARGETS))
    images, epsilons = tf.constant(floats()), [EPSILON / 2, EPSILON, 2 * EPSILON]
    _, made, success = GeneratorAttack(generator)(model, images, criterion, epsilons=epsilons)
    for found, epsilon in zip(made, (EPSILON / 2, EPSILON, EPSILON), strict=True):
        np.testing.assert_allclose(found, generator(floats(), TARGETS, epsilon), atol=1e-6)
    np.testing.assert_array_equal(success[1], classifier(made[1]).numpy().argmax(axis=1) == TARGETS)


def test_foolbox_attacks_channels_first_and_other_bounds(untargeted):
    def channels_first(images):
        return classifier(np.moveaxis(images / 255, 1, -1)).numpy()

    model = foolbox.NumPyModel(channels_first, bounds=(0, 255), data_format="channels_first")
    images = np.moveaxis(255 * floats(), -1, 1)
    labels = np.array([0, 1, 2])
    _, made, _ = GeneratorAttack(untargeted)(model, images, labels, epsilons=8.0)
    expected = np.moveaxis(255 * untargeted(floats(), labels), -1, 1)
    np.testing.assert_allclose(made, expected, atol=1e-3)


def test_foolbox_is_told_the_criterion_that_the_generator_takes(generator):
    model = foolbox.TensorFlowModel(classifier, bounds=(0, 1))
    with pytest.raises(InputError, match="TargetedMisclassification"):
        GeneratorAttack(generator)(model, tf.constant(floats()), tf.constant(TARGETS), epsilons=EPSILON)
