"""The black-box case: a surrogate that follows the generator, and the images it is queried with."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from aigan_tf.classifiers.black_box import BlackBox, DynamicDistillation, attacked_images


def test_the_surrogate_alone_follows_the_generator(make_aigan, make_classifier, digit_classifier, digits):
    surrogate = make_classifier(seed=5)
    aigan = make_aigan(classifier=surrogate)
    few = digits.train.take(slice(0, 200))
    answered = dataclasses.replace(few, labels=tf.nn.softmax(digit_classifier(few.as_float())).numpy())
    distillation = DynamicDistillation(
        surrogate, keras.optimizers.Adam(3e-3), BlackBox(digit_classifier), answered, few.labels, images_per_epoch=150,
        batch_size=50,
    )  # fmt: skip
    distillation.set_model(aigan)

    def unchanged():
        others = [model.get_weights() for model in (digit_classifier, aigan.generator, aigan.discriminator)]
        statistics = [value.numpy() for value in surrogate.non_trainable_variables if "moving" in value.path]
        return [value for weights in (*others, statistics) for value in weights]

    before, losses = unchanged(), []
    for epoch in range(12):
        logs = {}
        distillation.on_epoch_end(epoch, logs)
        losses.append(logs["surrogate_loss"])
        assert logs["queries"] == 150 * (epoch + 1)  # clean images were answered before
    assert losses[-1] < 0.8 * losses[0]
    for a, b in zip(unchanged(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_generators_images_are_those_of_its_attack(make_aigan, batch):
    images, labels = batch
    aigan = make_aigan()
    made = attacked_images(aigan, images, labels, seed=(0, 3), batch_size=5)
    targets = aigan.choose_targets(tf.constant(labels), tf.constant((0, 3), tf.int64))
    assert (targets.numpy() != labels).all()
    np.testing.assert_allclose(made, aigan(images, targets), atol=1e-6)
