"""AdvGAN: one target class, no class input, no attacker."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from aigan_tf.method.advgan import AdvGAN
from aigan_tf.method.networks import Discriminator, Generator


@pytest.fixture
def make_advgan(make_classifier):
    def make():
        keras.utils.set_random_seed(0)
        networks = Generator(1, 1, width=4, num_blocks=1, embedding_dim=8), Discriminator(1, width=4)
        advgan = AdvGAN(*networks, make_classifier(), 10, 3)
        optimizers = (keras.optimizers.Adam(1e-2, beta_1=0.5) for _ in range(2))
        advgan.compile(*optimizers, epsilon=0.3, gan_weight=0.01, hinge_weight=0.01, hinge_threshold=1.0)
        return advgan

    return make


def test_every_image_is_driven_to_the_one_target_whatever_is_asked_for(make_advgan, batch):
    advgan = make_advgan()
    for seed in (None, tf.constant([0, 1])):
        np.testing.assert_array_equal(advgan.choose_targets(tf.constant([0, 1, 2, 4]), seed), [3, 3, 3, 3])
    images = tf.constant(batch[0])
    zero, three, nine = (advgan(images, tf.fill((16,), target)).numpy() for target in (0, 3, 9))
    np.testing.assert_array_equal(zero, three)
    np.testing.assert_array_equal(zero, nine)
    assert np.abs(zero - batch[0]).max() <= 0.3 + 1e-6


def test_the_discriminators_real_images_are_the_clean_ones(make_advgan, batch):
    """A step equals one of a model whose stage was set to 2 by hand, and no stage 1 is ever run."""
    advgan = make_advgan()
    assert advgan.stage == 2
    seen = []
    discriminator = advgan.discriminator
    original = discriminator.call
    discriminator.call = lambda images, training=None: seen.append(images) or original(images, training)
    advgan.train_step((tf.constant(batch[0]), tf.constant(batch[1])))
    np.testing.assert_array_equal(seen[0], batch[0])


def test_training_reaches_the_target(make_advgan, batch):
    images, labels = batch
    keep = labels != 3
    data = tf.data.Dataset.from_tensors((images[keep], labels[keep])).repeat()
    advgan = make_advgan()
    before = advgan.evaluate(images[keep], labels[keep], verbose=0, return_dict=True)
    history = advgan.fit(data, steps_per_epoch=60, verbose=0).history
    after = advgan.evaluate(images[keep], labels[keep], verbose=0, return_dict=True)
    assert np.isfinite(history["generator_loss"]).all()
    assert after["adversarial_loss"] < 0.8 * before["adversarial_loss"]
