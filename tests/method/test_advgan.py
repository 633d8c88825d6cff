"""AdvGAN: one target class, no class input, no attacker."""

import numpy as np
import pytest
import tensorflow as tf

from aigan_tf.build import build_advgan
from aigan_tf.config import make_config


@pytest.fixture
def advgan(digits, make_classifier):
    config = make_config(generator_width=4, generator_blocks=1, batch_size=16)
    return build_advgan(config, digits, make_classifier(), target_class=3, epochs=1)


def test_every_image_is_driven_to_the_one_target_whatever_is_asked_for(advgan, batch):
    for seed in (None, tf.constant([0, 1])):
        np.testing.assert_array_equal(advgan.choose_targets(tf.constant([0, 1, 2, 4]), seed), [3, 3, 3, 3])
    images = tf.constant(batch[0])
    zero, three, nine = (advgan(images, tf.fill((16,), target)).numpy() for target in (0, 3, 9))
    np.testing.assert_array_equal(zero, three)
    np.testing.assert_array_equal(zero, nine)
    assert np.abs(zero - batch[0]).max() <= 0.3 + 1e-6


def test_training_reaches_the_target_and_takes_clean_images_for_real(advgan, batch):
    images, labels = batch
    keep = labels != 3
    images, labels = images[keep], labels[keep]
    seen, discriminate = [], advgan.discriminator.call
    advgan.discriminator.call = lambda images, training=None: seen.append(images) or discriminate(images, training)
    advgan.train_step((tf.constant(images), tf.constant(labels)))
    np.testing.assert_array_equal(seen[0], images)

    before = advgan.evaluate(images, labels, verbose=0, return_dict=True)
    data = tf.data.Dataset.from_tensors((images, labels)).repeat()
    history = advgan.fit(data, steps_per_epoch=60, verbose=0).history
    after = advgan.evaluate(images, labels, verbose=0, return_dict=True)
    assert np.isfinite(history["generator_loss"]).all()
    assert after["adversarial_loss"] < 0.8 * before["adversarial_loss"]
