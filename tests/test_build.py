"""What a run's settings become: the model that train.py trains."""

import numpy as np
import pytest
import tensorflow as tf

from aigan_tf import build as building
from aigan_tf.config import make_config
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.data.splits import Split
from aigan_tf.method.pgd import pgd_attack

KERNEL = tf.random.stateless_normal((32 * 32 * 3, 10), (0, 0))


@pytest.fixture(scope="module")
def dataset():
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype(np.uint8)
    split = Split(images, np.arange(8, dtype=np.int32))
    return ImageDataset("random", tuple("0123456789"), split, split, split)


def classifier(images):
    return tf.reshape(images, (-1, 32 * 32 * 3)) @ KERNEL


def build(dataset, **settings):
    config = make_config(dataset="cifar10", generator_width=4, generator_blocks=1, **settings)
    return building.build_aigan(config, dataset, classifier, 100)


@pytest.mark.parametrize("attack", ["targeted", "untargeted"])
def test_the_attacker_is_the_one_of_the_settings(attack, dataset):
    images, labels = tf.constant(dataset.train.as_float()), tf.constant(dataset.train.labels)
    aigan = build(dataset, attack=attack, attack_steps=2, attack_step_size=0.02)
    epsilons = aigan.max_epsilons(images)

    def attacked(seed):
        return aigan.attacker(classifier, images, labels, epsilon=epsilons, seed=tf.constant(seed))

    expected = pgd_attack(
        classifier, images, labels, epsilon=epsilons, step_size=0.02, num_steps=2, targeted=attack == "targeted",
        seed=tf.constant((1, 2)),
    )  # fmt: skip
    np.testing.assert_allclose(attacked((1, 2)), expected, atol=1e-6)
    assert 4 / 255 < np.abs(attacked((1, 2)) - images).max() <= 8 / 255 + 1e-6
    assert np.abs(attacked((1, 2)) - attacked((3, 4))).max() > 0.01  # another start


def test_the_objective_is_the_one_of_the_settings(dataset):
    aigan = build(
        dataset,
        gan_weight=0.3,
        hinge_weight=0.7,
        hinge_threshold=0.9,
        learning_rate=0.004,
        discriminator_learning_rate=0.003,
        seed=5,
    )
    assert (aigan.gan_weight, aigan.hinge_weight, aigan.hinge_threshold) == (0.3, 0.7, 0.9)
    assert aigan.epsilon == pytest.approx(8 / 255)
    assert (aigan.targeted, aigan.seed, aigan.num_classes) == (True, 5, 10)
    assert float(aigan.generator_optimizer.learning_rate) == pytest.approx(0.004)
    assert float(aigan.discriminator_optimizer.learning_rate) == pytest.approx(0.003)
    aigan.generator_optimizer.iterations.assign(100)
    assert float(aigan.generator_optimizer.learning_rate) == pytest.approx(0.0)  # the end of the cosine
    assert not aigan.jit_compile  # XLA halves the speed of convolutions on a CPU


def test_settings_choose_optimizer_and_bound(dataset):
    assert "muon" in type(build(dataset).generator_optimizer).__name__.lower()
    aigan = build(dataset, optimizer="adam", bound="tanh")
    assert type(aigan.generator_optimizer).__name__ == "Adam"
    assert aigan.generator.head.activation is tf.keras.activations.tanh
    assert build(dataset, discriminator_width=6).discriminator.convs[-1].filters == 24
