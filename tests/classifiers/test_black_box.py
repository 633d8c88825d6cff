"""The black-box case: answers only, counted; a copy that follows the generator."""

import keras
import numpy as np
import tensorflow as tf

from aigan_tf.classifiers.black_box import BlackBox, DynamicDistillation, attacked_images


def test_every_image_asked_about_is_counted_and_answered_with_probabilities(digit_classifier, digits):
    box = BlackBox(digit_classifier)
    images = digits.validation.as_float()[:13]
    answers = box(images, batch_size=5)
    assert int(box.queries) == 13
    np.testing.assert_allclose(answers, tf.nn.softmax(digit_classifier(images)), atol=1e-6)
    box(images[:4])
    assert int(box.queries) == 17


def test_the_copy_follows_the_generator_and_nothing_else_changes(make_aigan, make_classifier, digit_classifier, digits):
    copy = make_classifier(seed=5)
    aigan = make_aigan(classifier=copy)
    box = BlackBox(digit_classifier)
    few = digits.train.take(slice(0, 200))
    answers = tf.nn.softmax(digit_classifier(few.as_float())).numpy()
    soft = type(few)(few.images, answers, few.pixel_max)
    distillation = DynamicDistillation(
        copy, keras.optimizers.Adam(3e-3), box, soft, few.labels, images_per_epoch=150, batch_size=50
    )
    distillation.set_model(aigan)
    kept = [model.get_weights() for model in (digit_classifier, aigan.generator, aigan.discriminator)]
    statistics = [w.numpy() for w in copy.non_trainable_variables if "moving" in w.path]
    losses = []
    for epoch in range(12):
        logs = {}
        distillation.on_epoch_end(epoch, logs)
        losses.append(logs["copy_loss"])
        assert logs["queries"] == 150 * (epoch + 1)  # clean images were answered before
    assert losses[-1] < 0.8 * losses[0]
    for model, weights in zip((digit_classifier, aigan.generator, aigan.discriminator), kept, strict=True):
        for a, b in zip(model.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(a, b)
    for a, b in zip([w.numpy() for w in copy.non_trainable_variables if "moving" in w.path], statistics, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_generators_images_are_those_of_its_attack(make_aigan, batch):
    images, labels = batch
    aigan = make_aigan()
    made = attacked_images(aigan, images, labels, seed=(0, 3), batch_size=5)
    classes = aigan.choose_targets(tf.constant(labels), tf.constant((0, 3), tf.int64))
    assert (classes.numpy() != labels).all()
    np.testing.assert_allclose(made, aigan(images, classes), atol=1e-6)
